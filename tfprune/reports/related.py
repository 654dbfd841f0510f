"""Whether two models can be compared."""

from __future__ import annotations

import keras

from tfprune.keras_private.layers import inner_layers


def check_related(before: keras.Model, after: keras.Model) -> None:
    """Refuses two models that do not compute the same thing.

    Inputs may be fewer, since `rebuild` drops the number of a subnetwork, and a vocabulary may have
    been trimmed.

    Raises:
        ValueError: If the inputs or outputs differ.
    """
    try:
        inputs = [[tuple(t.shape[1:]) for t in m.inputs or ()] for m in (before, after)]
        outputs = [[tuple(t.shape[1:]) for t in m.outputs or ()] for m in (before, after)]
    except AttributeError:  # A subclassed model says neither.
        return
    rest = iter(inputs[0])
    if not all(any(_agree(old, new) for old in rest) for new in inputs[1]):
        _refuse("inputs", inputs)
    rows = [_rows(before), _rows(after)]
    if len(outputs[0]) != len(outputs[1]) or not all(
        _agree(old, new)
        or (old[-1:] and old[-1] in rows[0] and new[-1] in rows[1] and _agree(old[:-1], new[:-1]))
        for old, new in zip(*outputs, strict=True)
    ):
        _refuse("outputs", outputs)


def _agree(old, new) -> bool:
    return len(old) == len(new) and all(
        a is None or b is None or a == b for a, b in zip(old, new, strict=True)
    )


def _rows(model) -> set[int]:
    """The sizes of its vocabularies."""
    return {x.input_dim for x in inner_layers(model) if hasattr(x, "embeddings")}


def _refuse(what: str, shapes) -> None:
    raise ValueError(
        f"`after` must be made from `before`, with the same {what}. Received: {what} of shapes "
        f"{shapes[0]} in `before` and {shapes[1]} in `after`"
    )
