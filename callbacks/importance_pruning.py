"""Removes the groups with the lowest scores, in one step or in rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from tfprune import criteria
from tfprune.arguments import integer
from tfprune.budgets.choosing import WITHIN, default_within
from tfprune.budgets.targets import Target
from tfprune.callbacks.targeted import TargetedPruning
from tfprune.criteria.examples import FirstExamples
from tfprune.repair import repair
from tfprune.schedules import Moment, cubic


class ImportancePruning(TargetedPruning):
    """Removes the groups that matter least, then lets training go on without them.

    Groups are scored at `start`, and again in each further round until `stop`; those that score
    lowest are set to zero. `tfprune.rebuild` then cuts them out.

    Args:
        structures: Kinds (`"ffn"`, `"heads"`, `"channels"`, `"recurrent"`), names or regular
            expressions; `None` means all but `"width"`, the channels of a residual stream.
        target: How far: `tfprune.Sparsity(0.5)`, `Parameters`, `Flops` or `Latency`; or a function
            of the step since `start` that gives a sparsity, such as a schedule of
            tensorflow_model_optimization.
        data: For `"gradient_importance"`, what its loss is taken on: a dataset or `(x, y)`; for
            `"activation"`, `"wanda"`, `"reconstruction"` and `"attention_confidence"`, what layers
            read: x is enough.
        criterion: `"gradient_importance"`, `"activation"`, `"wanda"`, `"reconstruction"`,
            `"magnitude"`, `"attention_confidence"` (of heads), or a `callable(structure)` that
            returns one score for each group.
        rounds: 1 removes all at `start`. More remove part by part between `start` and `stop`, most
            in the first rounds, and score what is left anew each time.
        start: When the first round is: steps (int), a fraction of this fit (float), or an `Epoch`
            or `Plateau` of `tfprune.schedules`.
        stop: When the last round is, as `start`. Needed for more than one round.
        within: `"kind"` and `"layer"` remove the same share from each; `"model"` ranks all groups
            together, for criteria whose scores of heads and of units are of one size; `"error"`
            lets each structure lose as many groups as make the sum of the errors of all least while
            the target is met, by dynamic programming over the cost, for criteria whose scores are
            errors or changes of the loss. By default as in `tfprune.prune`: `"kind"` for gradient
            importance, `"layer"` for other criteria, `"error"` for `"reconstruction"` with
            `repair` and, with criteria whose scores are errors or changes of the loss, for a
            `Latency` and for the `Flops` of channels.
        per_cost: Divides scores by the weights of a group; not with `within="error"`.
        round_to: Kind to a number whose multiples are left, such as `{"ffn": 8}`.
        batches: Batches of `data` to look at in a round; all by default.
        repair: What `fit` takes, labels not needed: in each round the layers that read what is
            removed are fitted to what is left, on its first 512 examples, before training goes on;
            see `tfprune.prune`. `None` fits nothing.
        check_every: Steps from one look to the next.
        verbose: 1 says when groups are first scored, which holds up the fit, and prints a table at
            the end.
        log_structures: As in `PruningCallback`.

    Raises:
        ValueError: For arguments out of range; in `fit`, if a target cannot be reached, and as
            `PruningCallback`.

    Source: Michel et al., 2019; Li et al., 2022, section 3; the rounds follow Zhu & Gupta, "To
    Prune, or Not to Prune", 2017, equation 1.

    Example:

    >>> import keras, numpy as np, tfprune
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> x = np.random.default_rng(0).normal(size=(64, 4))
    >>> half = ImportancePruning(target=tfprune.Sparsity(0.5), data=(x, x[:, :1]), verbose=0)
    >>> history = model.fit(x, x[:, :1], epochs=2, verbose=0, callbacks=[half])
    >>> tfprune.find_structures(tfprune.rebuild(model))[0].groups
    4
    """

    _done: float
    _has_scored: bool

    _compared = WITHIN
    _data_arguments = ("data", "repair")

    def __init__(
        self,
        structures: str | Iterable[str] | None = None,
        target: Target | Callable | None = None,
        data: Any = None,
        criterion: str | Callable = "gradient_importance",
        rounds: int = 1,
        start: Moment = 0,
        stop: Moment | None = None,
        within: str | None = None,
        per_cost: bool = False,
        round_to: Mapping[str, int] | None = None,
        batches: int | None = None,
        repair: Any = None,
        check_every: int = 20,
        verbose: int = 1,
        log_structures: bool = False,
    ):
        self.criterion = criteria.get(criterion, data)
        self._compares_by_default = within is None
        if within is None:  # Kinds are not known before a fit.
            within = default_within(target, self.criterion, per_cost, repair is not None)
        super().__init__(
            structures,
            target=target,
            start=start,
            stop=stop,
            within=within,
            per_cost=per_cost,
            round_to=round_to,
            check_every=check_every,
            verbose=verbose,
            log_structures=log_structures,
        )
        if target is None:
            raise ValueError("`target` must be given, such as tfprune.Sparsity(0.5).")
        self.rounds = integer("rounds", rounds)
        if self.rounds > 1 and stop is None:
            raise ValueError(
                "`stop` must be given for more than one of `rounds`: when the last one is. "
                f"Received: rounds={rounds!r}, stop=None"
            )
        self.data = data
        self.batches = integer("batches", batches, optional=True)
        self.repair = repair

    def prepare(self) -> None:
        """Refuses structures that the criterion cannot score."""
        super().prepare()
        self.criterion.check_structures(self.subject, self.structures)
        self.criterion.try_data(self.model, self.subject, self.data, self.batches)
        self._examples = None
        if self.repair is not None:
            self._examples = FirstExamples(self.subject, self.repair)

    def _default_within(self) -> str:
        """What the scores of the criterion are good for."""
        return default_within(
            self.target,
            self.criterion,
            self.per_cost,
            self.repair is not None,
            self.structures.kinds,
        )

    @property
    def needs_span(self) -> bool:
        """Rounds are spread from start to stop."""
        return self.rounds > 1 or super().needs_span

    def on_step(self, step: int, steps: int) -> None:
        """Removes what is due in the present round."""
        due = self._due(step)
        self.prune_zero_groups()
        if due > self._done:
            self._done = due
            self.remove(self._scores(), due)

    def on_step_outside(self) -> None:
        """What is pruned stays at zero; the last round is at `stop`."""
        self.prune_zero_groups()
        if 0 < self._done < self._due(None):
            self._done = self._due(None)
            self.remove(self._scores(), self._done)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Starts without anything removed."""
        super().on_train_begin(logs)
        self._done = 0.0
        self._has_scored = False

    def before_removal(self, keep: dict[str, np.ndarray]) -> None:
        """Fits what has read the groups that go."""
        if self._examples is not None:
            repair(self.subject, self.structures, keep, self._examples.inputs())

    def finish(self) -> None:
        """Makes up for a round that the last steps did not reach."""
        if self.owner.clock.has_begun and self._done < self._due(None):
            self.warn_if_cut_short("what was still to be removed is removed now")
            self.remove(self._scores(), self._due(None))
        super().finish()

    def _due(self, step) -> float:
        """Progress towards the target at this step, 0 to 1; for `None` that of the last round."""
        first, last = self.span() if self.needs_span else (0, 0)
        if self.schedule:
            return self.schedule(max((last if step is None else step) - first, 0))
        if self.rounds == 1 or step is None:
            return 1.0
        passed = min((step - first) / max(last - first, 1), 1.0)
        number = 1 + int(passed * (self.rounds - 1) + 1e-9)
        return cubic(number / self.rounds)

    def _scores(self):
        if self.verbose and not self._has_scored:
            groups = sum(s.groups for s in self.structures)
            by = self.criterion.name or "a function"
            print(f"\n{type(self).__name__}: scoring {groups:,} groups by {by} …", flush=True)
        self._has_scored = True
        return self.criterion.scores(
            self.model, self.subject, self.structures, self.data, self.batches
        )
