"""Sizes and places that are written down in calls, and what they are when some positions are gone.

`reshape(x, (-1, 8, 8, 16))` says how many channels there are, `x[..., :16]` where they lie. In the
graph of a Functional model, and in a layer `Reshape`, that can be written anew.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers

from tfprune.keras_private.functional import operation_classes

_RESHAPE = operation_classes(["Reshape"])
_SPLIT = operation_classes(["Split"])
_GET_ITEM = operation_classes(["GetItem"])
REWRITTEN = (*_RESHAPE, *_SPLIT, *_GET_ITEM)
"""Operations in which sizes and places are written."""

Written = dict[str, Any]
"""Entries of the configuration of a layer or operation, or arguments of the call, that change."""


def can_be_rewritten(flow: Any, node: Any) -> bool:
    """Whether what is written in a call can be changed.

    In a `call` that somebody wrote it cannot, but a layer in it has its own configuration.

    Args:
        flow: The flow.
        node: A call.
    """
    if isinstance(node.operation, layers.Layer):
        return isinstance(node.operation, layers.Reshape)
    return isinstance(node.operation, REWRITTEN) and flow.graph.is_functional(node)


def rewritten(flow: Any, node: Any, gone: np.ndarray) -> Written:
    """What is to be written in a call where some positions are gone.

    Args:
        flow: The flow, whose classes are known.
        node: A call of which `can_be_rewritten` is true.
        gone: Classes of labels.

    Returns:
        What changes; nothing where no sizes or places are written down.
    """
    operation = node.operation
    if isinstance(operation, layers.Reshape):
        sizes = tuple(operation.target_shape)
        return _changed("target_shape", sizes, _sizes(flow, node, gone, (-1, *sizes))[1:])
    if type(operation) in _RESHAPE:
        sizes = operation.newshape
        sizes = (sizes,) if isinstance(sizes, int) else tuple(sizes)
        return _changed("newshape", sizes, _sizes(flow, node, gone, sizes))
    (tensor,) = node.input_tensors
    if type(operation) in _SPLIT:
        places = operation.indices_or_sections
        left = _left_before(flow, tensor, operation.axis, gone)
        if isinstance(places, int) or left is None:
            return {}
        size = tensor.shape[operation.axis]
        new = [int(left[_place(place, size)]) for place in places]
        return _changed("indices_or_sections", list(places), new)
    args, kwargs = node.arguments.args, node.arguments.kwargs
    key = kwargs["key"] if "key" in kwargs else args[1]
    return _changed("key", key, _key(flow, tensor, key, gone))


def _changed(name: str, old: Any, new: Any) -> Written:
    return {} if old == new else {name: new}


def _sizes(flow, node, gone, written):
    """What is written of the shape of the output, with fewer positions where some have gone."""
    (output,) = node.outputs
    sizes = list(written)
    for axis, labels in enumerate(flow.labels(output)):
        if labels is not None and sizes[axis] != -1:
            sizes[axis] = int(np.count_nonzero(~np.isin(flow.classes.of(labels), gone)))
    return tuple(sizes)


def _left_before(flow, tensor, axis, gone):
    """For each place along an axis, how many positions before it are left."""
    labels = flow.labels(tensor)[axis]
    if labels is None:
        return None
    stays = ~np.isin(flow.classes.of(labels), gone)
    return np.append(0, np.cumsum(stays))


def _key(flow, tensor, key, gone):
    """What stands in brackets, with the bounds of slices counted anew."""
    parts = list(key) if isinstance(key, tuple) else [key]
    new = list(parts)
    taken = sum(part is not Ellipsis and part is not None for part in parts)
    axis = 0
    for place, part in enumerate(parts):
        if part is None:
            continue
        if part is Ellipsis:
            axis += len(tensor.shape) - taken
            continue
        left = _left_before(flow, tensor, axis, gone)
        # With a step what is taken together leaves together, and bounds stay as they are.
        if left is not None and isinstance(part, slice) and part.step in (None, 1):
            start, stop = (
                None if bound is None else int(left[_place(bound, tensor.shape[axis])])
                for bound in (part.start, part.stop)
            )
            new[place] = slice(start, stop, part.step)
        axis += 1
    return tuple(new) if isinstance(key, tuple) else new[0]


def _place(bound, size):
    return slice(bound, None).indices(size)[0]
