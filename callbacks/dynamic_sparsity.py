"""One training for every size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from tfprune import criteria
from tfprune.arguments import boolean, integer, number
from tfprune.budgets.opening_sizes import binned, opening_sizes
from tfprune.budgets.targets import Sparsity
from tfprune.callbacks.gated import WithGates
from tfprune.callbacks.ranked import RankedPruning
from tfprune.fit.by_subnetwork import (
    check_subnetworks_in,
    examples_by_subnetwork,
    subnetworks_and_prior,
)
from tfprune.gates import DynamicGate, Gate, Size
from tfprune.gates.attaching import PenaltyValues
from tfprune.gates.dynamic import at_size
from tfprune.gates.gate_penalties import Diversity, SizeGap
from tfprune.keras_private.fits import synchronize
from tfprune.penalties import checked_strength
from tfprune.schedules import Moment


class DynamicSparsity(WithGates, RankedPruning):
    """Trains a model of every size at once: in each step a random one.

    At `start` the groups are ranked by importance, and each gets the smallest size that
    contains it. From then on each step draws one of the sizes and trains the weights in it.
    Afterwards `tfprune.rebuild(model, size=0.5)` cuts any size out of the model, and
    `tfprune.sizes(model, data)` shows what each is worth. The gates stay on the model for that,
    open at the largest size; a file saved from it holds that size alone. Groups that are in no size
    are set to zero at the end of the fit.

    Args:
        sizes: The sizes that are trained, as shares of the weights of the structures.
        structures: Kinds (`"ffn"`, `"heads"`, `"channels"`, `"recurrent"`), names or regular
            expressions; `None` means all but `"width"`, the channels of a residual stream.
        data: What importance is taken on: a dataset or `(x, y)`.
        criterion: As in `ImportancePruning`; by default `"gradient_importance"` where there is
            `data`, and `"magnitude"` where there is none.
        start: When the sizes begin: steps (int), a fraction of this fit (float), or an `Epoch` or
            `Plateau` of `tfprune.schedules`. Before it the model is trained whole, so that it has
            learned what matters when groups are ranked.
        within: As in `ImportancePruning`, but for `"error"`: groups are ranked once for all sizes.
            The paper has one threshold over heads, units and ranks: `within="model"` with
            `per_cost=True`. By default each kind has equal shares.
        per_cost: As in `ImportancePruning`. A group counts as many weights as it has: in a layer of
            width d with biases a head of size k has `4kd + 3k`, a unit `2d + 1`; a rank of a
            factorized embedding of v tokens has `v + d`. The paper counts 4k, 2 and 1.
        round_to: As in `ImportancePruning`.
        sandwich: Of three steps one takes the largest size, one the smallest, one a random size.
            Without it each step takes a random size.
        train_gates: Trains α and β of the gates as well, which are then drawn in each step as hard
            concrete gates are. Groups can then change places between the sizes, and each size is
            met about, as closely as `strength` keeps it.
        strength: With `train_gates`, λ of `λ |size - t|`, which keeps the gates to the size.
        score_learning_rate: With `train_gates`, their learning rate, for Adam and its variants.
        subnetworks: As in `HardConcreteGates`: names, such as languages. Each is
            ranked by itself, on its own examples in `data`, and has a network of each size:
            `tfprune.rebuild(model, size=0.5, subnetwork="de")`. With one size alone this is
            pruning by gradient importance for each language.
        subnetwork_entry: The entry of `x` that holds the numbers of the subnetworks. On JAX a
            model of several inputs must have one of that name, see `tfprune.gates.Subnetworks`.
        diversity: With `subnetworks` and `train_gates`, as in `HardConcreteGates`.
        distance: As in `HardConcreteGates`; at the sizes of the steps.
        families: As in `HardConcreteGates`.
        batches: Batches of `data` to look at; all by default.
        seed: Seed of the sizes.
        verbose: 1 prints a table of the sizes at the end.
        log_structures: As in `PruningCallback`.

    Attributes:
        gates: The gates, also after the fit.

    Raises:
        ValueError: For arguments out of range, and as `PruningCallback`.

    Source: Li et al., "Probing Structured Pruning on Multilingual Pre-trained Models", 2022,
    section 6.1 and appendix D; the sandwich rule, here spread over steps, is that of Yu & Huang,
    "Universally Slimmable Networks", 2019, section 3.

    Example:

    >>> import keras, numpy as np, tfprune
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> x = np.random.default_rng(0).normal(size=(64, 4))
    >>> every = DynamicSparsity(sizes=[1.0, 0.5, 0.25], verbose=0)
    >>> history = model.fit(x, x[:, :1], epochs=3, verbose=0, callbacks=[every])
    >>> small = [tfprune.rebuild(model, size=size) for size in (1.0, 0.5, 0.25)]
    >>> [tfprune.find_structures(s)[0].groups for s in small]
    [8, 4, 2]
    """

    _begun: bool

    def __init__(
        self,
        sizes: Sequence[float] = (1.0, 0.75, 0.5, 0.25),
        structures: str | Iterable[str] | None = None,
        data: Any = None,
        criterion: str | Callable | None = None,
        start: Moment = 0.25,
        within: str = "kind",
        per_cost: bool = False,
        round_to: Mapping[str, int] | None = None,
        sandwich: bool = False,
        train_gates: bool = False,
        strength: float = 8.0,
        score_learning_rate: float = 0.01,
        subnetworks: Sequence[str] | None = None,
        subnetwork_entry: str = "language",
        diversity: float = 0.0,
        distance: float | None = None,
        families: Sequence[Sequence[str]] | None = None,
        batches: int | None = None,
        seed: int = 0,
        verbose: int = 1,
        log_structures: bool = False,
    ):
        super().__init__(
            structures,
            start=start,
            within=within,
            per_cost=per_cost,
            round_to=round_to,
            verbose=verbose,
            log_structures=log_structures,
        )
        sizes = _checked_sizes(sizes)
        train_gates = boolean("train_gates", train_gates)
        if criterion is None:
            criterion = "magnitude" if data is None else "gradient_importance"
        self.criterion = criteria.get(criterion, data)
        self.subnetworks, self._prior = subnetworks_and_prior(
            subnetworks, subnetwork_entry, diversity, families, distance
        )
        if subnetworks is not None and (data is None or self.criterion.needs_data is None):
            raise ValueError(
                "With `subnetworks` each is ranked on its own examples: `data` must be given, and "
                f"`criterion` be one that takes data. Received: data={data!r}, "
                f"criterion={criterion!r}"
            )
        if diversity and not train_gates:
            raise ValueError("`diversity` is learned by the gates: it needs train_gates=True.")
        self.diversity = diversity
        self.distance = distance
        self.sizes = sizes
        self.data = data
        self.sandwich = boolean("sandwich", sandwich)
        self.train_gates = train_gates
        self.strength = checked_strength(strength)
        self.score_learning_rate = number("score_learning_rate", score_learning_rate, above=0)
        self.batches = integer("batches", batches, optional=True)
        self.seed = integer("seed", seed, least=0)

    # -- gates -------------------------------------------------------------------------------------

    def make_gates(self) -> list[Gate]:
        """One gate for each structure; all of them read one size."""
        self._size = Size()
        scale = self.score_scale(self.score_learning_rate) if self.train_gates else 1.0
        return [
            DynamicGate(
                s, self._size, self.train_gates, self.seed + i, scale, subnetworks=self.subnetworks
            )
            for i, s in enumerate(self.structures)
        ]

    def prepare(self) -> None:
        """Applies the gates; with `train_gates` puts the penalty on their size into the loss."""
        super().prepare()
        self.criterion.check_structures(self.subject, self.structures)
        self.criterion.try_data(self.model, self.subject, self.data, self.batches)
        if self.subnetworks is not None:
            check_subnetworks_in(self.data, self.subnetworks)
        if self.train_gates:
            share = Sparsity(0.0).cost(self.subject, self.structures)
            self.state.add_penalty(SizeGap(self.gates, self._size, share))
        if self.diversity:
            self._diversity = Diversity(self.gates, self._prior, self.distance)
            self.state.add_penalty(self._diversity)

    def _rank(self) -> None:
        """Scores the groups, and says at which size each of them is added."""
        self.owner.model_changed()
        if self.subnetworks is None:
            ranked = self._ranked(self.data, self.batches)
        else:
            apart = examples_by_subnetwork(self.data, self.subnetworks, self.batches)
            # Arrays are told apart as a whole; of a dataset there are just the batches wanted.
            batches = self.batches if isinstance(self.data, tuple) else None
            each = [self._ranked(apart[name], batches) for name in self.subnetworks.names]
            ranked = {name: np.stack([one[name] for one in each], axis=1) for name in each[0]}
        for gate in self.gates:
            gate.rank(*ranked[gate.structure.name])

    def _ranked(self, data, batches):
        """Structure name to `t̂` and δ, an array `(2, groups)`."""
        scores = self.criterion.scores(self.model, self.subject, self.structures, data, batches)
        opens_at, width = opening_sizes(
            self.structures, scores, self.within, self.per_cost, self.round_to
        )
        return {
            n: np.stack(binned(opens_at[n], width[n], self.sizes, self.train_gates))
            for n in opens_at
        }

    @property
    def decided(self) -> bool:
        """Whether the groups are ranked, in this fit or in the part of it before a resume."""
        return any(bool(np.any(ops.convert_to_numpy(g.opens_at) > 0)) for g in self.gates)

    # -- during the fit ----------------------------------------------------------------------------

    def on_step(self, step: int, steps: int) -> None:
        """Ranks the groups when it is time."""
        if not self._decided_once:
            self._rank()
        if self.train_gates:
            diversity = self._diversity.strength(self.diversity) if self.diversity else 0.0
            self.gates.set_penalty_values(PenaltyValues(self.strength, diversity=diversity))

    def on_step_outside(self) -> None:
        """Before the start the whole model is trained."""

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Sets the size for this step."""
        if self._decided_once:
            self._set_size(self._drawn(self.owner.clock.epoch_start + batch))

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Validates the largest size."""
        self._set_size(self.sizes[0])

    def end_steps(self) -> None:
        """Shows the largest size to other callbacks, which may save the model."""
        if self._decided_once:
            self._set_size(self.sizes[0])

    def _drawn(self, step: int) -> float:
        """The size of a step; it depends on the seed and the step alone."""
        if self.sandwich and step % 3 < 2:
            return self.sizes[0] if step % 3 == 0 else self.sizes[-1]
        return float(np.random.default_rng([self.seed, step]).choice(self.sizes))

    @property
    def _decided_once(self) -> bool:
        """`decided`, without a look at the gates once it is true."""
        if not self._begun:
            synchronize(self)
            self._begun = self.decided
        return self._begun

    def _set_size(self, size):
        synchronize(self)
        self._size.size.assign(size)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Starts with the whole model."""
        super().on_train_begin(logs)
        self._begun = False

    # -- after it ----------------------------------------------------------------------------------

    @property
    def keeps_gates(self) -> bool:
        """Any size is still to come."""
        return True

    def finish(self) -> None:
        """Opens the gates for the largest size, and leaves in the weights what that holds.

        A file holds the weights without the gates, and must compute what the model does. What no
        size contains goes: no step has trained it.
        """
        if self.owner.clock.has_begun and not self.decided:
            self.warn_if_cut_short("the sizes are made now")
            self._rank()
        self._set_size(self.sizes[0])
        for gate in self.gates:
            structure = gate.structure
            is_open = gate.open_groups().reshape(-1, structure.groups)
            self.prune(structure, ~is_open.any(axis=0))
            if self.subnetworks is None:
                gate.fold_present_size()

    def _print_summary(self):
        counts = {}
        for size in self.sizes:
            with at_size(self.subject, size):
                counts[f"{size:g}"] = self.open_by_network()
        for name in next(iter(counts.values())):
            whose = f" of {name}" if name else ""
            columns = {size: by_name[name] for size, by_name in counts.items()}
            self._print_table(f"groups in each size{whose}", columns)


def _checked_sizes(sizes) -> list[float]:
    """The sizes, each once, the largest first."""
    try:
        checked = {float(number("sizes", size, above=0, most=1)) for size in sizes}
    except (TypeError, ValueError):
        checked = set()
    if not checked:
        raise ValueError(
            "`sizes` must be a list of numbers above 0 and at most 1, such as [1.0, 0.5]. "
            f"Received: sizes={sizes!r}"
        )
    return sorted(checked, reverse=True)
