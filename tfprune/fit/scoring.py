"""What callbacks ask of `tfprune.criteria`, until they ask it themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from tfprune import criteria
from tfprune.structures import Structures


def checked_criterion(criterion: str | Callable, data: Any) -> None:
    """Raises `ValueError` if a criterion is unknown or lacks data."""
    criteria.get(criterion, data)


def score(
    criterion: str | Callable,
    model: keras.Model,
    subject: keras.Model,
    structures: Structures,
    data: Any,
    batches: int | None,
) -> Callable:
    """The scores of structures, as `Criterion.scores` returns them."""
    return criteria.get(criterion, data).scores(model, subject, structures, data, batches)
