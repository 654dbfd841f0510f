"""L0 gates during `fit`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from keras import ops

from tfprune.arguments import integer, number, one_of
from tfprune.budgets.targets import Target
from tfprune.callbacks.gated import GatedPruning
from tfprune.fit.by_subnetwork import subnetworks_and_prior
from tfprune.gates import Gate, HardConcrete
from tfprune.gates.attaching import PenaltyValues
from tfprune.gates.gate_penalties import Diversity, SizePenalty
from tfprune.penalties import checked_strength
from tfprune.schedules import Moment


class HardConcreteGates(GatedPruning):
    """Learns which units and heads to keep with hard concrete (L0) gates.

    Each group gets a gate that is drawn anew in each training step. Its chance of being open is
    trained with the weights, and pushed down by a penalty on the expected size. When pruning stops,
    groups are ranked by that chance, the target is met, and what is left keeps training.

    Args:
        structures: Kinds (`"ffn"`, `"heads"`, `"channels"`, `"recurrent"`), names or regular
            expressions; `None` means all but `"width"`, the channels of a residual stream.
        target: How far: `tfprune.Sparsity(0.5)`, `Parameters` or `Flops`. Without one, `strength`
            decides.
        strength: Without a target: loss units for all gates open, in proportion to their weights.
            With `penalty="l1"`: the factor of the distance to the target, by default 8. With
            `penalty="lagrangian"`: the factor of its square, by default 8; the multiplier of the
            distance itself rises until the target is met.
        penalty: How a target is approached: `"lagrangian"` or `"l1"`, `λ |size - t|`.
        warm_up: Share of the time from `start` to `stop` in which the limit goes down to the
            target.
        score_learning_rate: Learning rate of the gates, for Adam and its variants.
        initial: α to start with; the chance of being open is `σ(α + 1.6)`.
        start: When the gates begin to be drawn, and the penalty: steps (int), a fraction of this
            fit (float), or an `Epoch` or `Plateau` of `tfprune.schedules`.
        stop: When the choice is made, as `start`.
        within: As in `ImportancePruning`, but for `"error"`: what is ranked are trained gates, no
            errors.
        round_to: As in `ImportancePruning`.
        subnetworks: Names of subnetworks, such as languages: each gets gates of its own over the
            shared weights and meets the target on its own. Each example in the data of `fit` then
            carries the number of its subnetwork, as in `tfprune.gates.Subnetworks`. The gates stay
            on the model, and `tfprune.rebuild(model, subnetwork="de")` cuts out the network of
            one; a file saved from the model holds the shared weights alone.
        subnetwork_entry: The entry of `x` that holds the numbers of the subnetworks. On JAX a
            model of several inputs must have one of that name, see `tfprune.gates.Subnetworks`.
        diversity: With `subnetworks`, λ of a penalty on what their networks have in common:
            `λ ‖P ⊙ (GᵀG) ⊙ (1 − I)‖`, where an entry of `GᵀG` is the share of the weights that two
            of them both use.
        distance: With `diversity`, the mean Hamming distance between the networks, 0 to 1, at which
            that penalty ends: λ falls to zero on the way there. By default λ stays, and drives
            networks as far apart as the target lets it. Those of the paper are up to 0.3 apart.
        families: With `diversity`, lists of subnetworks that need not differ, such as related
            languages.
        seed: Seed of the draws.
        check_every: Steps from one look to the next.
        verbose: 1 prints a table at the end.
        log_structures: As in `PruningCallback`.

    Raises:
        ValueError: For arguments out of range; in `fit`, if a target cannot be reached, and as
            `PruningCallback`.

    Source: Louizos et al., 2018; Li et al., 2022, sections 3 and 4.2.1; the multiplier as in Wang
    et al., "Structured Pruning of Large Language Models", 2020, section 3.2.

    Example:

    >>> import keras, numpy as np, tfprune
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> x = np.random.default_rng(0).normal(size=(64, 4))
    >>> gates = HardConcreteGates(target=tfprune.Sparsity(0.5), verbose=0)
    >>> history = model.fit(x, x[:, :1], epochs=2, verbose=0, callbacks=[gates])
    >>> tfprune.find_structures(tfprune.rebuild(model))[0].groups
    4
    """

    def __init__(
        self,
        structures: str | Iterable[str] | None = None,
        target: Target | None = None,
        strength: float | None = None,
        penalty: str = "lagrangian",
        warm_up: float = 0.5,
        score_learning_rate: float = 0.05,
        initial: float = 2.5,
        start: Moment = 0.25,
        stop: Moment | None = 0.7,
        within: str = "model",
        round_to: Mapping[str, int] | None = None,
        subnetworks: Sequence[str] | None = None,
        subnetwork_entry: str = "language",
        diversity: float = 0.0,
        distance: float | None = None,
        families: Sequence[Sequence[str]] | None = None,
        seed: int | None = 0,
        check_every: int = 10,
        verbose: int = 1,
        log_structures: bool = False,
    ):
        if target is not None and not isinstance(target, Target):
            raise ValueError(
                "`target` must be a target such as tfprune.Sparsity(0.5). Received: "
                f"target={target!r}"
            )
        super().__init__(
            structures,
            target=target,
            start=start,
            stop=stop,
            within=within,
            per_cost=False,
            round_to=round_to,
            check_every=check_every,
            verbose=verbose,
            log_structures=log_structures,
        )
        one_of("penalty", penalty, ("lagrangian", "l1"))
        if target is None and strength is None:
            raise ValueError("`target` or `strength` must be given.")
        self.subnetworks, self._prior = subnetworks_and_prior(
            subnetworks, subnetwork_entry, diversity, families, distance
        )
        self.diversity = diversity
        self.distance = distance
        self.strength = checked_strength(8.0 if strength is None else strength)
        self.penalty = penalty
        self.warm_up = number("warm_up", warm_up, least=0, most=1)
        self.score_learning_rate = number("score_learning_rate", score_learning_rate, above=0)
        self.initial = number("initial", initial)
        self.seed = integer("seed", seed, least=0, optional=True)

    def make_gates(self) -> list[Gate]:
        """One gate for each structure."""
        scale = self.score_scale(self.score_learning_rate)
        seeds = [None if self.seed is None else self.seed + i for i in range(len(self.structures))]
        return [
            HardConcrete(s, self.initial, seed, scale, subnetworks=self.subnetworks)
            for s, seed in zip(self.structures, seeds, strict=True)
        ]

    def prepare(self) -> None:
        """Puts the penalty on the gates' size into the loss."""
        super().prepare()
        cost = self._cost
        smooth = self.target.smooth(cost, self.structures) if self.target else cost
        self._penalty = SizePenalty(self.gates, smooth, self._kind())
        self._draw(False)
        self.state.add_penalty(self._penalty)
        if self.diversity:
            self._diversity = Diversity(self.gates, self._prior, self.distance)
            self.state.add_penalty(self._diversity)

    def _kind(self):
        return "size" if self.target is None else self.penalty

    @property
    def needs_span(self) -> bool:
        """Whether the limit decreases to the target over a share of the time."""
        return self.target is not None

    def on_step(self, step: int, steps: int) -> None:
        """Moves the target and the multiplier."""
        self.prune_zero_groups()
        self._draw(True)
        limit = 0.0
        if self.target is not None:
            first, last = self.span()
            passed = (step - first) / max(self.warm_up * (last - first), 1)
            limit = self._full - min(passed, 1.0) * (self._full - self.target.limit)
        multiplier = float(self.gates.penalty_values.multiplier)
        if self._kind() == "lagrangian" and steps:
            # Dual ascent: 0.01 a step turns a lasting gap of 10 % into 1 loss unit in 1,000 steps.
            multiplier += 0.01 * steps * self._gap(limit)
        span = self._full - self._least
        diversity = self._diversity.strength(self.diversity) if self.diversity else 0.0
        self.gates.set_penalty_values(
            PenaltyValues(self.strength, limit, multiplier, span, diversity)
        )

    def distance_to_target(self) -> float | None:
        """Until the choice is made, that of the expected size: nothing is removed before."""
        if self.target is None or self.decided:
            return super().distance_to_target()
        return (
            float(np.max(ops.convert_to_numpy(self._penalty.expected_size()))) - self.target.limit
        )

    def _draw(self, are_drawn):
        """Whether gates are drawn: not before `start`, since that is a noise like dropout's."""
        for gate in self.gates:
            gate.is_drawn.assign(float(are_drawn))

    def _gap(self, limit):
        size = float(np.mean(ops.convert_to_numpy(self._penalty.expected_size())))
        return (size - limit) / max(self._full - self._least, 1e-12)

    def on_step_outside(self) -> None:
        """No penalty."""
        self.gates.set_penalty_values(PenaltyValues())
        super().on_step_outside()

    def select(self) -> dict[str, np.ndarray]:
        """The groups most likely to be open."""
        if self.target is None:
            return {g.structure.name: g.open_groups() for g in self.gates}
        likely = {g.structure.name: ops.convert_to_numpy(g.scaled_scores) for g in self.gates}
        if self.subnetworks is None:
            return self.survivors(likely)
        each = [
            self.survivors({name: scores[i] for name, scores in likely.items()})
            for i in range(len(self.subnetworks))
        ]
        return {name: np.stack([keep[name] for keep in each]) for name in likely}

    def fix(self, keep: dict[str, np.ndarray]) -> None:
        """Open gates stay as they are at inference, closed ones are zero."""
        for gate in self.gates:
            # A kept group whose gate is closed could not be trained, so the gate opens a little.
            value = np.maximum(ops.convert_to_numpy(gate.free()), 0.01)
            gate.fix(np.where(keep[gate.structure.name], value, 0.0).astype("float32"))
