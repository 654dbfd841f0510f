"""Lottery tickets: learn early which heads matter, and train again without the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np
from keras import ops

from tfprune import criteria
from tfprune.arguments import boolean, called_with_none, integer, number
from tfprune.budgets.ranking import checked_scores
from tfprune.budgets.targets import Target
from tfprune.callbacks.targeted import TargetedPruning
from tfprune.criteria.data import is_function, shares_examples
from tfprune.fit.rewinding import Checkpoint
from tfprune.fit.rounds import Rounds
from tfprune.keras_private.fits import synchronize, trained_on
from tfprune.schedules import Epoch, Moment, Plateau, when
from tfprune.tables import wrapped
from tfprune.user_warnings import warn

_CLOCK = ("taken", "round", "began", "over", "length")


class HeadLottery(Rounds, TargetedPruning):
    """Finds the heads that matter early in training and rewinds to try again without the others.

    The model trains until `start`, the late-resetting checkpoint, whose weights and optimizer are
    kept. Then come rounds: train for `round_length`, remove the `heads_per_round` heads that are
    least confident, set everything that is left back to the checkpoint. When the target is met the
    fit ends with the checkpoint's weights and without the heads that have lost; `tfprune.rebuild`
    cuts them out, and the small model is trained to convergence:

        model.fit(data, epochs=40, callbacks=[lottery])  # ends when the search is over
        small = tfprune.rebuild(model)
        small.compile(optimizer, loss)
        small.fit(data, epochs=20)

    Data in a new order for each round is what `fit` gives anyway when a dataset shuffles in each
    epoch. A search that is killed continues where `BackupAndRestore` has saved it last.

    Args:
        target: How far: `tfprune.Sparsity(0.75)` of the heads' weights, `Parameters`, `Flops` or
            `Latency`.
        heads_per_round: How many heads leave in a round; by default half as many as there are
            attention layers.
        data: What heads are scored on: a dataset or `(x, y)`; for confidence `x` is enough. It must
            be held out of training, as a development set is; where it shares arrays with what
            `fit` trains on, there is a warning. A function of no argument is called in each round,
            and once before the first step, and gives such data: for instance what the model itself
            makes of a text, as `tfprune.translation.GreedyTranslations` does.
        structures: Kinds, names or regular expressions; heads by default.
        criterion: `"attention_confidence"`, `"gradient_importance"`, `"magnitude"`, or a
            `callable(structure)` that returns one score for each head.
        start: When the checkpoint is taken: steps (int), a fraction of this fit (float), or an
            `Epoch` or `Plateau` of `tfprune.schedules`. 0 keeps the weights the fit begins with,
            such as pretrained ones.
        round_length: How long a round trains: a share (float) of the steps to the checkpoint, those
            of earlier fits included as far as the optimizer has counted them; near the paper's 15
            of 25 thousand by default. Or steps (int), or an `Epoch` of `tfprune.schedules`. With
            `monitor`, a share is rounded up to whole epochs, at whose end the metric is known.
        within: `"model"` ranks all heads together, as the paper does, where a layer may lose all of
            them (tables 3 and 4); `"layer"` takes the same number from each layer.
        batches: Batches of `data` to look at in a round; all by default.
        monitor: A metric in the epoch logs that is noted for each round, such as `"val_bleu"`;
            `None` for a round in which no epoch ends.
        floor: The worst value of `monitor` that is accepted at the end of a round; where it is
            worse, the round's heads come back and the search ends.
        stop_training: Whether the fit ends with the search. If not, it goes on from the checkpoint
            with the heads that are left.
        check_every: Steps from one look to the next.
        verbose: 1 prints a line for each round and a table at the end.
        log_structures: As in `PruningCallback`.

    Attributes:
        rounds: One dictionary for each round: `round`, `left` (structure name to heads), `removed`
            (structure name to the numbers of the heads that left) and `metric`.
        scores: The criterion's scores in the last round.

    Raises:
        ValueError: For arguments out of range; in `fit`, if a target cannot be reached or the fit
            is too short for the search, and as `PruningCallback`.

    Source: Behnke & Heafield, "Losing Heads in the Lottery", 2020, section 4.

    Example:

    >>> import keras, numpy as np, tfprune
    >>> inputs = keras.Input((5, 8))
    >>> outputs = keras.layers.MultiHeadAttention(4, 2, name="attention")(inputs, inputs)
    >>> model = keras.Model(inputs, outputs)
    >>> model.compile("adam", "mse")
    >>> x, held_out = np.random.default_rng(0).normal(size=(2, 64, 5, 8))
    >>> lottery = HeadLottery(tfprune.Sparsity(0.5), heads_per_round=1, data=held_out, verbose=0)
    >>> history = model.fit(x, x, epochs=9, verbose=0, callbacks=[lottery])
    >>> [r["left"]["attention"] for r in lottery.rounds]
    [3, 2]
    """

    target: Target

    def __init__(
        self,
        target: Target,
        heads_per_round: int | None = None,
        data: Any = None,
        structures: str | Iterable[str] | None = "heads",
        criterion: str | Callable = "attention_confidence",
        start: Moment = Epoch(1),  # noqa: B008  # Frozen.
        round_length: Moment = 0.6,
        within: str = "model",
        batches: int | None = None,
        monitor: str | None = None,
        floor: float | None = None,
        stop_training: bool = True,
        check_every: int = 20,
        verbose: int = 1,
        log_structures: bool = False,
    ):
        super().__init__(
            structures,
            target=target,
            start=start,
            stop=None,
            within=within,
            per_cost=False,
            round_to=None,
            check_every=check_every,
            verbose=verbose,
            log_structures=log_structures,
        )
        if not isinstance(target, Target):
            raise ValueError(
                "`target` must be a target such as tfprune.Sparsity(0.75). Received: "
                f"target={target!r}"
            )
        if within == "kind":
            raise ValueError("`within` must be 'model' or 'layer'. Received: within='kind'")
        self.criterion = criteria.get(criterion, data)
        if monitor is not None and (not isinstance(monitor, str) or not monitor):
            raise ValueError(
                "`monitor` must be a name in the epoch logs, or None. Received: "
                f"monitor={monitor!r}"
            )
        if floor is not None and monitor is None:
            raise ValueError("`monitor` must name the metric that `floor` is for. Received: None")
        self.heads_per_round = integer("heads_per_round", heads_per_round, optional=True)
        self.data = called_with_none("data", data) if is_function(data) else data
        self.round_length = _duration(round_length)
        if isinstance(self.round_length, Plateau):
            raise ValueError(
                "`round_length` must be a duration that is known beforehand. Received: "
                f"round_length={round_length!r}"
            )
        self.batches = integer("batches", batches, optional=True)
        self.monitor = monitor
        self.floor = number("floor", floor, optional=True)
        self.stop_training = boolean("stop_training", stop_training)
        self.scores = None
        self.rounds: list[dict] = []

    # -- before the fit ----------------------------------------------------------------------------

    def prepare(self) -> None:
        """Makes room for the checkpoint."""
        super().prepare()
        self.criterion.check_structures(self.subject, self.structures)
        data = self._present_data()
        self.criterion.try_data(self.model, self.subject, data, self.batches)
        self._warn_of_training_data(data)
        if self.heads_per_round is None:
            self._number = max(len(self.structures) // 2, 1)
        else:
            self._number = self.heads_per_round

        self._check_length()

    def prepared(self) -> None:
        """Makes room for the checkpoint: a copy of the weights and of the optimizer."""
        self._variables = self.owner.trained_variables()
        heads = sum(s.groups for s in self.structures)
        self._checkpoint = Checkpoint(self._variables, heads, rounds=heads)
        self.owner.attach_part(self._checkpoint)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Starts without rounds."""
        super().on_train_begin(logs)
        self.rounds, self.scores = [], None
        self._metric: float | None = None

    def _present_data(self):
        return self.data() if is_function(self.data) else self.data

    def _warn_of_training_data(self, data):
        if any(shares_examples(data, x) for x in trained_on(self.model)):
            warn(
                "HeadLottery: `data` holds examples that this fit trains on. Heads are judged "
                "on a development set: give examples that are held out of training.",
            )

    def _check_length(self):
        if isinstance(self.start, Plateau):
            return  # At which the model has been trained, for nobody knows how long.
        start = self.start.at(self._clock, "start")
        length = self._steps_of_a_round(self._trained_steps() + start)
        if length < 1:
            raise ValueError(f"`round_length` must be at least one step. Received: {length}")
        if self._clock.steps_per_epoch is None:
            return
        keep = self.survivors({s.name: np.zeros(s.groups) for s in self.structures})
        rounds = math.ceil(sum(int(np.sum(~k)) for k in keep.values()) / self._number)
        needed = start + rounds * length
        if needed > self._clock.steps(self._clock.epochs, "stop"):
            epochs = math.ceil(needed / self._clock.steps_per_epoch)
            raise ValueError(
                f"`epochs` of this fit must be at least {epochs} for {rounds} rounds of "
                f"{length} steps from the checkpoint on. Received: epochs={self._clock.epochs}. "
                "More `heads_per_round` or a shorter `round_length` need fewer."
            )

    def _trained_steps(self):
        """The steps of the optimizer up to now."""
        return int(ops.convert_to_numpy(self.model.optimizer.iterations))

    def _steps_of_a_round(self, to_checkpoint):
        """The length of a round, after so many steps to the checkpoint."""
        if not isinstance(self.round_length, float):
            return self.round_length.at(self._clock, "round_length")
        if not to_checkpoint:
            raise ValueError(
                "`round_length` is a share of the steps to the checkpoint, and the optimizer has "
                f"counted none when it is taken. Received: round_length={self.round_length}, "
                f"start={self.start}. Give a number of steps or an `Epoch`."
            )
        length = max(round(self.round_length * to_checkpoint), 1)
        per_epoch = self._clock.steps_per_epoch
        if self.monitor is not None and per_epoch:
            length = math.ceil(length / per_epoch) * per_epoch
        return length

    # -- time --------------------------------------------------------------------------------------

    def _clocks(self):
        return ops.convert_to_numpy(self._checkpoint.clock)

    def on_step(self, step: int, steps: int) -> None:
        """Saves the checkpoint, and ends rounds."""
        self.prune_zero_groups()
        self._turn(step, at_epoch_end=False)

    def on_step_outside(self) -> None:
        """What is pruned stays at zero."""
        self.prune_zero_groups()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Ends a round that is as long as the epoch, now that its metrics are known."""
        if self.monitor is not None:
            known = logs or {}
            if self.monitor not in known:
                raise ValueError(
                    f"`monitor` is {self.monitor!r}, which is not in the epoch logs. Put the "
                    f"callback that writes it before this one. The logs hold: "
                    f"{', '.join(known)}"
                )
            self._metric = float(known[self.monitor])
        synchronize(self)
        step = self.owner.clock.steps
        if self._phase(step) == (True, False):
            self.prune_zero_groups()
            self._turn(step, at_epoch_end=True)
        super().on_epoch_end(epoch, logs)

    def _turn(self, step, at_epoch_end):
        taken, number, began, over, length = self._clocks()
        if not taken:
            self._checkpoint.save(self._variables)
            length = self._steps_of_a_round(self._trained_steps())
            self._set_clock(taken=1, began=step, length=length)
            return
        if step == began:
            self._metric = None  # Of the epoch that ended where the round begins.
        # The last batch of an epoch has no validation yet: the end of the epoch follows at once.
        per_epoch = self._clock.steps_per_epoch
        waits = not at_epoch_end and per_epoch and step % per_epoch == 0
        if not over and not waits and step - began >= length:
            self._end_round(int(number) + 1, step)

    def _set_clock(self, **values):
        clock = self._clocks().copy()
        for name, value in values.items():
            clock[_CLOCK.index(name)] = value
        self._checkpoint.clock.assign(clock)

    # -- rounds ------------------------------------------------------------------------------------

    def _end_round(self, number, step):
        left_in = ops.convert_to_numpy(self._checkpoint.left_in).copy()
        metric = ops.convert_to_numpy(self._checkpoint.metric).copy()
        if self._metric is not None:
            metric[number], self._metric = self._metric, None
            self._checkpoint.metric.assign(metric)
        if self._below_floor(metric[number]):
            left_in[left_in == number - 1] = 0  # Of round 0 there are those that never left.
            over = True
        else:
            self.scores = self.criterion.scores(
                self.model, self.subject, self.structures, self._present_data(), self.batches
            )
            over = self._let_go(checked_scores(self.structures, self.scores), left_in, number)
        self._checkpoint.left_in.assign(left_in)
        self._rewind()
        self._set_clock(round=number, began=step, over=over)
        self._read_rounds()
        if self.verbose:
            print(wrapped(self.line(self.rounds[-1], over)))
        if over and self.stop_training:
            self.model.stop_training = True

    def _below_floor(self, metric):
        if self.floor is None or np.isnan(metric):
            return False
        return self.monitor is not None and Plateau(self.monitor).gain(self.floor, metric) < 0

    def _let_go(self, scores, left_in, number):
        """Marks the heads that leave in this round; whether the target is met."""
        parts = self._parts(left_in)
        for _ in range(self._number):
            left = {s.name: int(np.sum(parts[s.name] == 0)) for s in self.structures}
            now = self._cost(left)
            if now <= self.target.limit + 1e-9:
                break
            best = min(
                (s for s in self.structures if left[s.name]),
                key=lambda s: (
                    -left[s.name] / s.groups if self.within == "layer" else 0,
                    scores[s.name][parts[s.name] == 0].min(),
                ),
            )
            after = self._cost({**left, best.name: left[best.name] - 1})
            if self.target.limit - after > now - self.target.limit:
                return True  # Further from the target than it is now.
            head = np.argmin(np.where(parts[best.name] == 0, scores[best.name], np.inf))
            parts[best.name][head] = number
        left = {s.name: int(np.sum(parts[s.name] == 0)) for s in self.structures}
        return bool(self._cost(left) <= self.target.limit + 1e-9)

    def _parts(self, left_in):
        """Views of one array for all structures, one for each."""
        ends = np.cumsum([s.groups for s in self.structures])
        parts = np.split(left_in, ends[:-1])
        return {s.name: part for s, part in zip(self.structures, parts, strict=True)}

    def _rewind(self):
        self.owner.model_changed()
        self._checkpoint.restore(self._variables)
        for s in self.structures:
            gone = self._parts(ops.convert_to_numpy(self._checkpoint.left_in))[s.name] > 0
            self.owner.pruned.restore(s, gone)
        # What other callbacks have pruned since the checkpoint stays pruned too.
        self.owner.pruned.prune_again(self.model.optimizer)

    def _read_rounds(self):
        parts = self._parts(ops.convert_to_numpy(self._checkpoint.left_in))
        metric = ops.convert_to_numpy(self._checkpoint.metric)
        self.rounds = [
            {
                "round": number,
                "left": {n: int(np.sum((p == 0) | (p > number))) for n, p in parts.items()},
                "removed": {
                    n: np.flatnonzero(p == number).tolist() for n, p in parts.items() if number in p
                },
                "metric": None if np.isnan(metric[number]) else float(metric[number]),
            }
            for number in range(1, int(self._clocks()[1]) + 1)
        ]

    def finish(self) -> None:
        """Reads the rounds; warns if the search is not over."""
        if self.owner.clock.has_begun:
            self._read_rounds()
            if not self._clocks()[3]:
                warn(
                    f"HeadLottery: the fit ended before the search was over, in round "
                    f"{len(self.rounds) + 1}; the heads of the rounds before it are gone. A fit "
                    "of more `epochs` goes further, or more `heads_per_round`.",
                )
        super().finish()


def _duration(round_length):
    """A share as a float, everything else as `when` reads it."""
    if isinstance(round_length, Real) and not isinstance(round_length, Integral):
        return float(number("round_length", round_length, above=0))
    return when(round_length, "round_length")
