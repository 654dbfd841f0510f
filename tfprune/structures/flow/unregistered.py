"""Layers and operations that no rule is for: their smaller copies must compute what is left.

It is guessed that a call treats the positions along an axis alone, and that each variable of a
layer with an axis of the same size has a place for each of them there. Then a layer of that class
without some of the positions gives what is left of the output:
`op(x)[kept] == smaller_op(x[kept])`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, islice, product
from typing import Any
from weakref import WeakKeyDictionary

import keras
import numpy as np
from keras import ops

from tfprune.copying import copy_from_config
from tfprune.keras_private.layers import inner_layers, own_variables, own_variables_by_name
from tfprune.structures.dense import describe
from tfprune.structures.flow.running import run, shape_of
from tfprune.structures.registry import describe_of, nearest_in_graph_kind, refusal_of

_MOST = 16  # Guesses that are tried.
_SCALES = (0.1, 1.0, 8.0, 300.0)


def flow_unregistered(flow: Any, node: Any) -> None:
    """Follows each axis along which positions may leave, if they are treated alone along it.

    Args:
        flow: The `Flow`.
        node: A call of a layer or operation that no rule is for.
    """
    reason = f"it goes to {describe(node.operation)}"
    found: list[list[Any]] = [[None] * len(tensor.shape) for tensor in node.outputs]
    for axis in _live_axes(flow, node):
        passage = passage_of(node, axis)
        if passage is None:
            flow.stop(node, reason)
            return
        read = [
            flow.labels(tensor)[axis]
            for tensor in node.input_tensors
            if len(tensor.shape) >= -axis and tensor.shape[axis] != 1
        ]
        joined = read[0]
        for labels in read[1:]:
            joined = flow.join(joined, labels, f"{reason} with what must stay")
        if joined is not None:
            for role, variables in (("ride", passage.riding), ("statistic", passage.beside)):
                for attribute, place in variables.items():
                    flow.use(node.operation, attribute, place, role, joined)
            if passage.sizes:
                flow.sizes[id(node.operation)] = passage.sizes
        for labels in found:
            labels[axis] = joined
    for tensor, labels in zip(node.outputs, found, strict=True):
        flow.set(tensor, labels)


def _live_axes(flow, node) -> list[int]:
    """The axes, counted from the last, along which positions of an input may leave."""
    return sorted(
        {
            axis
            for tensor in node.input_tensors
            for axis, labels in enumerate(flow.labels(tensor), -len(tensor.shape))
            if labels is not None
        }
    )


@dataclass(frozen=True)
class Passage:
    """How the positions along an axis pass a call.

    Args:
        riding: Attribute of the layer to the axis of the variable that has a place for each
            position, of variables that are trained, and whose zeros make zeros of zeros.
        beside: Likewise, of other variables.
        sizes: The entries of the layer's configuration that count the positions.
    """

    riding: Mapping[str, int]
    beside: Mapping[str, int]
    sizes: tuple[str, ...]


# What was found out before, by class, for its configuration and the shapes of a call.
_KNOWN: WeakKeyDictionary[type, dict[Any, Passage | None]] = WeakKeyDictionary()


def passage_of(node: Any, axis: int) -> Passage | None:
    """How positions pass a call, `None` if they do not, for all that can be told.

    Args:
        node: The call.
        axis: Along which axis of what it is given and gives, counted from the last.
    """
    operation = node.operation
    tensors = [*node.input_tensors, *node.outputs]
    if not all("float" in str(tensor.dtype) for tensor in tensors):
        return None
    if not isinstance(operation, keras.Layer):
        return _passage(node, axis)  # What it is told is nowhere to be read.
    described = describe_of(operation) or refusal_of(operation)
    if described or nearest_in_graph_kind(operation) or inner_layers(operation):
        return None
    try:
        config = {**operation.get_config(), "name": None}
    except Exception:  # Whatever user code raises.
        return None
    key = axis, repr(config), tuple(tuple(tensor.shape) for tensor in tensors)
    known = _KNOWN.setdefault(type(operation), {})
    if key not in known:
        known[key] = _passage(node, axis)
    return known[key]


def _passage(node, axis) -> Passage | None:
    size = _size(node, axis)
    is_layer = isinstance(node.operation, keras.Layer)
    if size is None or size < 2 or (axis != -1 and is_layer and own_variables(node.operation)):
        return None  # Layers with variables are built for the last axis.
    try:
        trial = _Trial(node, axis, size)
        passages = (x for x in _guesses(node.operation, size) if trial.commutes(x))
        found = next(passages, None)
        return found and trial.told_apart(found)
    except Exception:  # Whatever a layer raises that is not given what it expects.
        return None


def _size(node, axis) -> int | None:
    """How many positions there are, `None` if what it is given and gives has different numbers.

    An input with one position has it for all of them.
    """
    if any(len(tensor.shape) < 1 - axis for tensor in node.outputs):
        return None  # The first axis is that of the examples.
    read = {t.shape[axis] for t in node.input_tensors if len(t.shape) >= 1 - axis} - {1}
    made = {tensor.shape[axis] for tensor in node.outputs}
    return made.pop() if len(made) == 1 and read == made and None not in made else None


def _guesses(operation, size) -> Iterator[Passage]:
    """The likely ones first: the last axes of variables, and no entry of the configuration."""
    if not isinstance(operation, keras.Layer):
        yield Passage({}, {}, ())
        return
    places = {
        name: [axis for axis in reversed(range(len(v.shape))) if v.shape[axis] == size]
        for name, v in own_variables_by_name(operation).items()
    }
    places = {name: axes for name, axes in places.items() if axes}
    ways = [dict(zip(places, way, strict=True)) for way in product(*places.values())]
    counts = [
        name
        for name, value in operation.get_config().items()
        if type(value) is int and value == size and places
    ]
    entries = [x for many in range(len(counts) + 1) for x in combinations(counts, many)]
    for sizes, way in islice(product(entries, ways), _MOST):
        yield Passage(way, {}, sizes)


class _Trial:
    """A call on random numbers, of a layer with random weights."""

    def __init__(self, node, axis, size):
        self._node, self._axis = node, axis
        is_layer = isinstance(node.operation, keras.Layer)
        self._variables = own_variables(node.operation) if is_layer else []
        self._named = own_variables_by_name(node.operation) if is_layer else {}
        self._kept = np.flatnonzero(np.arange(size) % 3 != 1)
        draw = np.random.default_rng(0)
        # Above zero, since some may be variances.
        self._values = [
            draw.uniform(0.5, 1.5, v.shape).astype("float32") if "float" in str(v.dtype) else None
            for v in self._variables
        ]
        # What mixes may show it among large numbers alone, or among small ones.
        self._given = [self._numbers(draw, scales) for scales in ((1.0,), _SCALES)]

    def _numbers(self, draw, scales):
        shapes = {id(tensor): shape_of(tensor, 2) for tensor in self._node.input_tensors}
        return {
            key: (draw.normal(size=shape) * draw.choice(scales, size=shape)).astype("float32")
            for key, shape in shapes.items()
        }

    def commutes(self, passage: Passage) -> bool:
        """Whether a smaller call gives what is left of the output, and no less."""
        try:
            smaller = self._smaller(passage)
            for given in self._given:
                expected = [self._cut(value) for value in self._run(given)]
                left = {key: self._cut(value) for key, value in given.items()}
                for one, other in zip(expected, run(self._node, left, smaller), strict=True):
                    if one.shape != other.shape or not _alike(one, other):
                        return False
        except Exception:  # As where its sizes do not fit.
            return False
        return True

    def told_apart(self, passage: Passage) -> Passage | None:
        """Tells variables apart by what their zeros do; `None` if they make something infinite."""
        zeros = {key: np.zeros_like(value) for key, value in self._given[0].items()}
        silent = [self._cut(value) for value in self._run(zeros, passage.riding)]
        if not all(np.all(np.isfinite(value)) for value in silent):
            return None
        trained = {name for name in passage.riding if self._named[name].trainable}
        if any(np.any(value) for value in self._run(zeros, trained)):
            trained = set()
        riding = {name: axis for name, axis in passage.riding.items() if name in trained}
        beside = {name: axis for name, axis in passage.riding.items() if name not in trained}
        return Passage(riding, beside, passage.sizes)

    def _smaller(self, passage):
        """What is called without some of the positions, with weights."""
        if not self._variables:
            return self._node.operation
        layer, left = self._node.operation, len(self._kept)
        smaller = copy_from_config(layer, dict.fromkeys(passage.sizes, left))
        smaller.build_from_config(
            {name: self._cut_shapes(shape) for name, shape in layer.get_build_config().items()}
        )
        axes = {id(self._named[name]): axis for name, axis in passage.riding.items()}
        values = zip(self._variables, self._values, own_variables(smaller), strict=True)
        for old, value, new in values:
            if value is not None and id(old) in axes:
                value = value.take(self._kept, axes[id(old)])
            new.assign(old if value is None else value)
        return smaller

    def _run(self, given, zeroed=()):
        zeroed = {id(self._named[name]) for name in zeroed}
        weights = [
            (v, ops.convert_to_tensor(value * (id(v) not in zeroed), v.dtype))
            for v, value in zip(self._variables, self._values, strict=True)
            if value is not None
        ]
        with keras.StatelessScope(weights):
            return run(self._node, given)

    def _cut(self, value):
        """An array without the positions that are gone."""
        if value.ndim < 1 - self._axis or value.shape[self._axis] == 1:
            return value
        return value.take(self._kept, axis=self._axis)

    def _cut_shapes(self, shapes):
        def smaller(shape):
            if len(shape) < 1 - self._axis or shape[self._axis] in (None, 1):
                return shape
            cut = list(shape)
            cut[self._axis] = len(self._kept)
            return tuple(cut)

        if isinstance(shapes, (list, tuple)) and all(n is None or type(n) is int for n in shapes):
            return smaller(shapes)
        if isinstance(shapes, dict):
            return {name: self._cut_shapes(shape) for name, shape in shapes.items()}
        return [self._cut_shapes(shape) for shape in shapes]


def _alike(one, other) -> bool:
    return np.allclose(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)
