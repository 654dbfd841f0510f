"""Operations that only move numbers: no rule for each, they are run on labels.

The input is filled with labels, and where they are in the output is where the positions went. What
computes rather than moves is found out by a second run, with other numbers for the labels.
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from keras import layers

from tfprune.keras_private.functional import call_with, operation_classes
from tfprune.structures.dense import describe
from tfprune.structures.flow.rules import register_rule
from tfprune.structures.flow.running import run, shape_of
from tfprune.structures.flow.written import Written

_RANKS = ("1D", "2D", "3D")
_ENOUGH = 8
_LAYERS = [
    getattr(layers, f"{name}{rank}")
    for name in (
        "AveragePooling",
        "Cropping",
        "GlobalAveragePooling",
        "GlobalMaxPooling",
        "MaxPooling",
        "UpSampling",
        "ZeroPadding",
    )
    for rank in _RANKS
]
# fmt: off
_OPERATION_NAMES = (
    "AveragePool", "Concatenate", "ExpandDims", "GetItem", "Max", "MaxPool", "Mean", "Moveaxis",
    "Pad", "Reshape", "Split", "Squeeze", "SwapAxes", "Transpose",
)
# fmt: on
_OPERATIONS = operation_classes(_OPERATION_NAMES)


@register_rule(
    layers.Concatenate, layers.Flatten, layers.Permute, layers.Reshape, *_LAYERS, *_OPERATIONS
)
def flow_moves(flow, node):
    """Follows each axis along which positions may leave to where it lies in the outputs."""
    found = [[None] * len(tensor.shape) for tensor in node.outputs]
    ranks = {len(tensor.shape) for tensor in node.input_tensors}
    live = flow.live_axes(node)
    if live and len(ranks) > 1:
        flow.stop(node, f"{describe(node.operation)} joins tensors of several ranks")
        return
    for axis in live:
        try:
            moved = _moved(flow, node, axis + max(ranks))
        except Exception:  # Whatever an operation raises that is not given what it expects.
            flow.stop(node, f"{describe(node.operation)} does not run on numbers of known shapes")
            return
        fits = moved is not None and all(
            tensor.shape[at] == len(there)
            for tensor, (at, there) in zip(node.outputs, moved, strict=True)
        )
        if not fits:
            flow.stop(node, f"{describe(node.operation)} mixes it")
            return
        if any(labels[at] is not None for labels, (at, _) in zip(found, moved, strict=True)):
            # As the sizes of heads come to lie along the axis of the heads.
            for tensor in node.input_tensors:
                reason = f"{describe(node.operation)} lays it beside what leaves"
                flow.keep(flow.labels(tensor)[axis], reason)
            continue
        for labels, (at, there) in zip(found, moved, strict=True):
            labels[at] = there
    for tensor, labels in zip(node.outputs, found, strict=True):
        flow.set(tensor, labels)


def _moved(flow, node, axis):
    """For each output the axis where the positions of an axis of the inputs are, and their labels.

    `None` if they cannot be told apart there.
    """
    known = [flow.labels(tensor)[axis] for tensor in node.input_tensors]
    # Numbers of their own, small enough for sums of many in single precision.
    there = np.unique(np.concatenate([x for x in known if x is not None]))
    names = np.concatenate([[0.0], 1.0 + np.arange(len(there) + len(known))])
    draw = np.random.default_rng(0)
    others = np.concatenate([[0.0], 1.0 + draw.permutation(len(names) - 1)])
    first, second = _run_on(node, axis, known, there, [names, others])
    found = []
    for one, other in zip(first, second, strict=True):
        places = np.rint(one).astype(int)
        if places.min() < 0 or places.max() >= len(names):
            return None
        if np.abs(one - places).max() > 0.2 or np.abs(other - others[places]).max() > 0.2:
            return None
        at = _axis_of(places)
        if at is not None:
            found.append((at, _labels_along(flow, places, at, there)))
            continue
        axes = _axes_of_parts(places, len(there))
        if not axes:
            return None
        found.append((at := flow.chosen(axes), _labels_of_parts(flow, places, at, there)))
    return found


def _run_on(node, axis, known, there, namings):
    """What a call makes of labels, by each of some namings.

    Pooling and padding do at each place what they do at others, so a few places are enough.
    """
    if isinstance(node.operation, tuple(_LAYERS)):
        with suppress(Exception):  # A window may be larger.
            found = [_run_at(node, axis, known, there, names, _ENOUGH) for names in namings]
            if all(array.size for outputs in found for array in outputs):
                return found
    return [_run_at(node, axis, known, there, names) for names in namings]


def _run_at(node, axis, known, there, names, most=None):
    """What a call makes of labels by names; what must stay has a name for each input.

    Of axes other than the first and `axis` there are at most so many positions.
    """
    values = {}
    for number, (tensor, labels) in enumerate(zip(node.input_tensors, known, strict=True)):
        shape = [
            n if most is None or i in (0, axis) else min(n, most)
            for i, n in enumerate(shape_of(tensor))
        ]
        places = np.full(shape[axis], 1 + len(there) + number)
        if labels is not None:
            places = 1 + np.searchsorted(there, labels)
        along = [1] * len(shape)
        along[axis] = -1
        values[id(tensor)] = np.broadcast_to(
            names[places].astype("float32").reshape(along), shape
        ).copy()
    return run(node, values)


def _axis_of(places):
    """The axis along which names differ, if at each position of it there is but one, or padding."""
    for axis in range(1, places.ndim):
        rows = np.moveaxis(places, axis, 0).reshape(places.shape[axis], -1)
        highest = rows.max(axis=1)
        if np.all((rows == highest[:, None]) | (rows == 0)) and (
            len(highest) > 1 or len(np.unique(places)) == 1
        ):
            return axis if len(highest) > 1 or axis == places.ndim - 1 else None
    return None


def _axes_of_parts(places, count):
    """The axes whose positions have names of their own, if several lie at each of them.

    So do the heads where the units of a dense layer are laid out as heads and their sizes.
    """
    found: list[int] = []
    if places.min() == 0 or places.max() > count:
        return found
    for axis in range(1, places.ndim):
        rows = np.moveaxis(places, axis, 0).reshape(places.shape[axis], -1)
        each = [np.unique(row) for row in rows]
        if len(each) > 1 and sum(map(len, each)) == len(np.unique(places)):
            found.append(axis)
    return found


def _labels_of_parts(flow, places, axis, there):
    """A label for each position along an axis, with which what lies at it leaves."""
    parts = there[np.moveaxis(places, axis, 0) - 1]
    return flow.join_whole(parts.reshape(-1), len(parts))


def _labels_along(flow, places, axis, there):
    highest = np.moveaxis(places, axis, 0).reshape(places.shape[axis], -1).max(axis=1)
    stays = (highest == 0) | (highest > len(there))
    labels = np.zeros(len(highest), int)
    labels[~stays] = there[highest[~stays] - 1]
    if stays.any():
        labels[stays] = flow.classes.new(int(stays.sum()))
        flow.keep(labels[stays], "it lies beside what must stay")
    return labels


def commutes(flow, node, gone: np.ndarray, changes: Written) -> bool:
    """Whether a call that moves numbers moves what is left alike when some positions are gone.

    It does not where sizes or places are written down in it that cannot be changed.

    Args:
        flow: The flow, whose classes are known.
        node: The call.
        gone: Classes of labels.
        changes: What is written in it then.
    """
    draw = np.random.default_rng(0)
    whole, left = {}, {}
    for tensor in node.input_tensors:
        value = draw.normal(size=shape_of(tensor)).astype("float32")
        whole[id(tensor)], left[id(tensor)] = value, _without(flow, tensor, value, gone)
    expected = [
        _without(flow, tensor, value, gone)
        for tensor, value in zip(node.outputs, run(node, whole), strict=True)
    ]
    try:
        found = run(node, left, *call_with(node, changes))
    except Exception:  # Whatever an operation raises whose sizes do not fit.
        return False
    return all(
        one.shape == other.shape and np.allclose(one, other, atol=1e-5)
        for one, other in zip(expected, found, strict=True)
    )


def _without(flow, tensor, value, gone):
    """An array that stands for a tensor, without the positions that are gone."""
    for axis, labels in enumerate(flow.labels(tensor)):
        if labels is not None:
            value = np.compress(~np.isin(flow.classes.of(labels), gone), value, axis=axis)
    return value
