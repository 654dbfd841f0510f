"""Pruning that knows how far it is to go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from tfprune.budgets.choosing import are_flops_of_channels, choose
from tfprune.budgets.ranking import checked_scores
from tfprune.budgets.targets import Sparsity, Target
from tfprune.callbacks.ranked import RankedPruning
from tfprune.schedules import Moment, Plateau, scheduled
from tfprune.tables import wrapped


class TargetedPruning(RankedPruning):
    """Base of the callbacks that remove groups until a target is met.

    Args:
        structures: As in `PruningCallback`.
        target: A target of `tfprune.targets`; or a function of the step since `start` that gives a
            sparsity, such as a schedule of tensorflow_model_optimization.
        start: As in `PruningCallback`.
        stop: As in `PruningCallback`.
        within: As in `RankedPruning`.
        per_cost: As in `RankedPruning`.
        round_to: As in `RankedPruning`.
        check_every: As in `PruningCallback`.
        verbose: As in `PruningCallback`.
        log_structures: As in `PruningCallback`.

    Attributes:
        reached: What the model costs at the end of the fit, in the unit of the target; with
            `groups`, a dictionary from each of them to the cost of its network.
    """

    # Whether nothing was said of what is compared, for those that know better once a fit begins.
    _compares_by_default = False

    def __init__(
        self,
        structures: str | Iterable[str] | None,
        target: Target | Callable | None,
        start: Moment,
        stop: Moment | None,
        within: str,
        per_cost: bool,
        round_to: Mapping[str, int] | None,
        check_every: int,
        verbose: int,
        log_structures: bool = False,
    ):
        super().__init__(
            structures,
            start=start,
            stop=stop,
            within=within,
            per_cost=per_cost,
            round_to=round_to,
            check_every=check_every,
            verbose=verbose,
            log_structures=log_structures,
        )
        is_function = callable(target) and not isinstance(target, type)
        if target is not None and not isinstance(target, Target) and not is_function:
            raise ValueError(
                "`target` must be a target such as tfprune.Sparsity(0.5), or a function of the "
                f"step that gives a sparsity. Received: target={target!r}"
            )
        self.target = target if isinstance(target, Target) else None
        self.schedule = (
            None if target is None or self.target else scheduled(target, "target", most=1)
        )
        self.reached: float | dict[str, float] | None = None

    def prepare(self) -> None:
        """Works out what groups cost; a target that cannot be reached is an error now."""
        if self._compares_by_default:
            self.within = self._default_within()
        if self.needs_span and isinstance(self.stop, Plateau):
            raise ValueError(
                "`stop` must be a moment that is known beforehand, since what is removed follows a "
                f"schedule. Received: stop={self.stop!r}"
            )
        if self.needs_span and self.stop is None:
            self._clock.steps(self._clock.epochs, "stop")  # Unknown, it is an error now.
        # A schedule and a strength go by weights.
        self._cost = (self.target or Sparsity(0.0)).cost(self.subject, self.structures)
        counts = {s.name: s.groups for s in self.structures}
        self._full, self._least = self._cost(counts), self._cost(dict.fromkeys(counts, 0))
        if self.target is not None:
            self.survivors({s.name: np.zeros(s.groups) for s in self.structures})

    def _default_within(self) -> str:
        """What is compared where nothing is said.

        By the FLOPs of channels each layer loses the same share: the last layers of a network,
        where a channel costs least, would lose all but one, whatever their sizes are.
        """
        return "layer" if are_flops_of_channels(self.target, self.structures.kinds) else "kind"

    def survivors(self, scores: Any, progress: float = 1.0) -> dict[str, np.ndarray]:
        """The groups that stay at a point between the whole model and the target.

        Args:
            scores: A criterion, or structure name to scores.
            progress: 0 for the whole model, 1 for the target; where `target` is a schedule, the
                sparsity it gives.
        """
        target = self.target or Sparsity(progress)
        checked = checked_scores(self.structures, scores)
        for name, value in checked.items():
            checked[name] = np.where(self.pruned(self.structures[name]), -np.inf, value)
        return choose(
            target,
            self.subject,
            self.structures,
            checked,
            self.within,
            self.per_cost,
            self.round_to,
            self._cost,
            progress if self.target else 1.0,
        )

    def remove(self, scores: Any, progress: float = 1.0) -> None:
        """Prunes what scores lowest."""
        keep = self.survivors(scores, progress)
        self.before_removal(keep)
        for name, stays in keep.items():
            self.prune(self.structures[name], ~stays)

    def before_removal(self, keep: dict[str, np.ndarray]) -> None:
        """What is to be done while the groups that go are still there.

        Args:
            keep: Structure name to boolean array `(groups,)`, false for the groups that go.
        """

    @property
    def needs_span(self) -> bool:
        """Whether it must be known beforehand when pruning stops."""
        return self.schedule is not None

    def span(self) -> tuple[int, int]:
        """The steps of this fit at which pruning starts and stops.

        If `start` waits for a plateau that has not come, pruning starts where it stops.
        """
        assert not isinstance(self.stop, Plateau)  # `prepare` has looked.
        if self.stop is None:
            last = self._clock.steps(self._clock.epochs, "stop")
        else:
            last = self.stop.at(self._clock, "stop")
        if isinstance(self.start, Plateau):
            return int(self._moments.get("start", last)), last
        return self.start.at(self._clock, "start"), last

    def distance_to_target(self) -> float | None:
        """By how much the model costs more than the target allows now, in the unit of the target.

        With several subnetworks that of the one that costs most; `None` without a target.
        """
        return None if self.target is None else max(self._costs().values()) - self.target.limit

    def _costs(self):
        """Title of a column, as in `groups_left`, to what the model costs."""
        return {column: self._cost(left) for column, left in self.groups_left().items()}

    def finish(self) -> None:
        """Keeps the cost that was reached."""
        if self.target is None:
            return
        reached = self._costs()
        self.reached = reached if len(reached) > 1 else next(iter(reached.values()))
        if self.verbose:
            goal = self.target.describe(self.target.limit)
            for column, cost in reached.items():
                whose = f" of {column}" if len(reached) > 1 else ""
                name = type(self).__name__
                text = f"{name}{whose}: {self.target.describe(cost)}; the target is {goal}."
                print(wrapped(f"{text}{self.target.note}"))
