"""Operations that take a tensor apart along its last axis."""

from __future__ import annotations

from typing import Any

from tfprune.keras_private.functional import operation_classes

_SPLIT = operation_classes(["Split"])
_GET_ITEM = operation_classes(["GetItem"])


def split_ranges(node: Any) -> list[tuple[int, int]] | None:
    """Which part of the last axis of its input each output of a call is.

    Args:
        node: A Keras node.

    Returns:
        Start and stop for each output, or `None` where the call does anything else than take
        parts of the last axis.
    """
    if len(node.input_tensors) != 1 or not node.input_tensors[0].shape:
        return None
    shape = node.input_tensors[0].shape
    if shape[-1] is None:
        return None
    if type(node.operation) in _SPLIT:
        return _of_split(node.operation, len(shape), shape[-1])
    if type(node.operation) in _GET_ITEM:
        return _of_slice(_given(node, "key"), len(shape), shape[-1])
    return None


def has_fixed_sizes(node: Any) -> bool:
    """Whether a call takes parts at places that it is given, not equal shares of what is there."""
    return not (
        type(node.operation) in _SPLIT and isinstance(node.operation.indices_or_sections, int)
    )


def _of_split(operation, rank, size):
    if operation.axis not in (-1, rank - 1):
        return None
    where = operation.indices_or_sections
    if isinstance(where, int):
        if size % where:
            return None
        where = [size // where * i for i in range(1, where)]
    if not all(isinstance(x, int) for x in where):
        return None
    return list(zip([0, *where], [*where, size], strict=True))


def _of_slice(key, rank, size):
    key = key if isinstance(key, (tuple, list)) else (key,)
    *before, last = key
    if not isinstance(last, slice) or last.step not in (None, 1):
        return None
    if not all(x is Ellipsis or (isinstance(x, slice) and x == slice(None)) for x in before):
        return None
    if not any(x is Ellipsis for x in before) and len(key) != rank:
        return None
    if not all(x is None or isinstance(x, int) for x in (last.start, last.stop)):
        return None
    start, stop, _ = last.indices(size)
    return [(start, stop)]


def _given(node, name):
    args, kwargs = node.arguments.args, node.arguments.kwargs
    return kwargs[name] if name in kwargs else args[1]
