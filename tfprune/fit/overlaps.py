"""Callbacks of one fit prune structures of their own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def refuse_overlap(callbacks: Iterable[Any]) -> None:
    """Refuses callbacks that prune the same structure.

    Args:
        callbacks: Pruning callbacks that have chosen their `structures`.

    Raises:
        ValueError: If two of them prune one structure.
    """
    pruned_by: dict[str, str] = {}
    for callback in callbacks:
        for structure in callback.structures:
            if structure.name in pruned_by:
                raise ValueError(
                    f"`callbacks` holds two that prune {structure.name!r}: "
                    f"{pruned_by[structure.name]} and {type(callback).__name__}. Give each its "
                    "own `structures`; one callback takes strengths by part as a dictionary."
                )
            pruned_by[structure.name] = type(callback).__name__
