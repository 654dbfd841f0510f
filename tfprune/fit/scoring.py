"""The criteria that callbacks know by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from tfprune import criteria
from tfprune.structures import Structures

_NEED_DATA = {
    "gradient_importance": "what the loss is taken on, as a dataset or (x, y)",
    "attention_confidence": "what heads are to look at, as a dataset or arrays",
}


def checked_criterion(criterion: str | Callable, data: Any) -> None:
    """Says now, not hours later, what is wrong.

    Raises:
        ValueError: If a criterion is unknown or lacks data.
    """
    names = [*_NEED_DATA, "magnitude"]
    if not callable(criterion) and criterion not in names:
        raise ValueError(
            f"`criterion` must be {', '.join(map(repr, names))} or a function of a structure. "
            f"Received: criterion={criterion!r}"
        )
    if data is None and not callable(criterion) and criterion in _NEED_DATA:
        raise ValueError(
            f"`data` must be given for criterion={criterion!r}: {_NEED_DATA[criterion]}. Received: "
            "data=None"
        )


def score(
    criterion: str | Callable,
    model: keras.Model,
    subject: keras.Model,
    structures: Structures,
    data: Any,
    batches: int | None,
) -> Callable:
    """The criterion as a function of a structure.

    Args:
        criterion: Its name, or the function itself.
        model: The model that is trained, whose loss counts.
        subject: The model that is pruned.
        structures: Its structures.
        data: A dataset or arrays; of a tuple `(x, y)`, confidence takes `x`.
        batches: Batches of it to look at; `None` means all.
    """
    if criterion == "magnitude":
        return criteria.magnitude
    if criterion == "attention_confidence":
        x = data[0] if isinstance(data, tuple) else data
        return criteria.attention_confidence(subject, x, steps=batches)
    if criterion == "gradient_importance":
        return criteria.gradient_importance(model, data, structures, steps=batches)
    return criterion
