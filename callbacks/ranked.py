"""Pruning that ranks groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from tfprune.arguments import boolean, integer
from tfprune.budgets.choosing import check_within
from tfprune.callbacks.base import PruningCallback
from tfprune.schedules import Moment


class RankedPruning(PruningCallback):
    """Base of the callbacks that order the groups by their scores.

    Args:
        structures: As in `PruningCallback`.
        start: As in `PruningCallback`.
        stop: As in `PruningCallback`.
        within: As in `tfprune.budgets.choosing.choose`, but for `"error"`.
        per_cost: As in `tfprune.budgets.choosing.choose`.
        round_to: As in `tfprune.budgets.choosing.choose`.
        check_every: As in `PruningCallback`.
        verbose: As in `PruningCallback`.
        log_structures: As in `PruningCallback`.

    Raises:
        ValueError: For arguments out of range.
    """

    # `within="error"` is for those whose scores are errors, not only an order.
    _compared: ClassVar[tuple[str, ...]] = ("model", "kind", "layer")

    def __init__(
        self,
        structures: str | Iterable[str] | None = None,
        start: Moment = 0,
        stop: Moment | None = None,
        within: str = "model",
        per_cost: bool = False,
        round_to: Mapping[str, int] | None = None,
        check_every: int = 20,
        verbose: int = 1,
        log_structures: bool = False,
    ):
        super().__init__(
            structures,
            start=start,
            stop=stop,
            check_every=check_every,
            verbose=verbose,
            log_structures=log_structures,
        )
        self.per_cost = boolean("per_cost", per_cost)
        check_within(within, self.per_cost, self._compared)
        self.within = within
        _check_round_to(round_to)
        self.round_to = round_to


def _check_round_to(round_to):
    try:
        if round_to is not None:
            if not all(isinstance(kind, str) for kind in round_to):
                raise ValueError
            for multiple in round_to.values():
                integer("round_to", multiple)
    except (AttributeError, TypeError, ValueError):
        raise ValueError(
            "`round_to` must be a dictionary from kinds to positive whole numbers, such as "
            f"{{'ffn': 8}}. Received: round_to={round_to!r}"
        ) from None
