"""Tells by numbers whether a call without some positions computes what is left.

That a layer passes positions on, sums over them or makes them is a guess about the axes of its
variables; whether it is right a smaller layer tells, made from the configuration as `rebuild` does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from tfprune.copying import copy_from_config
from tfprune.keras_private.layers import own_variables, own_variables_by_name
from tfprune.structures.flow.running import run, shape_of

_SCALES = (0.1, 1.0, 8.0, 300.0)


@dataclass(frozen=True)
class Places:
    """Where the positions along one axis lie in a layer.

    Args:
        axes: Attribute to the axis of the variable that has a place for each position.
        sizes: The entries of the configuration that count them.
    """

    axes: Mapping[str, int]
    sizes: tuple[str, ...] = ()


class SmallerCalls:
    """A call on random numbers, of a layer with random weights, and the same on fewer positions.

    Args:
        node: The call.
        axis: The axis of what it is given, or gives, counted from the last.
        size: How many positions there are along it.
    """

    def __init__(self, node: Any, axis: int, size: int):
        self._node, self._axis, self._size = node, axis, size
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

    def pass_on(self, places: Places) -> bool:
        """Whether the layer passes positions on: `op(x)[kept] == smaller_op(x[kept])`."""
        return self._hold(places, True, lambda given: _each(self._cut, self._run(given)), self._cut)

    def read(self, places: Places) -> bool:
        """Whether it sums over them: with zeros for the others it is `smaller_op(x[kept])`."""
        return self._hold(
            places, True, lambda given: self._run(_values(self._zeroed, given)), self._cut
        )

    def make(self, places: Places) -> bool:
        """Whether it makes them: `op(x)[kept] == smaller_op(x)`."""
        return self._hold(
            places, False, lambda given: _each(self._cut, self._run(given)), lambda value: value
        )

    def silences(self, names: Collection[str]) -> bool:
        """Whether what the layer makes of zeros is zero where some of its variables are."""
        return not any(np.any(value) for value in self._run(self._zeros(), names))

    def is_finite_without(self, names: Collection[str]) -> bool:
        """Whether what it makes of zeros is finite where some of its variables are zero."""
        return all(np.all(np.isfinite(value)) for value in self._run(self._zeros(), names))

    def is_constant_without(self, names: Collection[str]) -> bool:
        """Whether it makes the same of all that it is given where some variables are zero."""
        constant = self._run(self._zeros(), names)
        return all(
            _alike(one, other)
            for given in self._given
            for one, other in zip(constant, self._run(given, names), strict=True)
        )

    def _hold(self, places, is_given, expected, cut) -> bool:
        try:
            smaller = self._smaller(places, is_given)
            for given in self._given:
                found = run(self._node, _values(cut, given), smaller)
                for one, other in zip(expected(given), found, strict=True):
                    if one.shape != other.shape or not _alike(one, other):
                        return False
        except Exception:  # Whatever a layer raises whose sizes do not fit.
            return False
        return True

    def _smaller(self, places, is_given):
        """What is called without some of the positions; a layer with its weights."""
        if not self._variables:
            return self._node.operation
        layer = self._node.operation
        smaller = copy_from_config(layer, dict.fromkeys(places.sizes, len(self._kept)))
        shapes = layer.get_build_config()
        if is_given:
            shapes = {name: self._cut_shapes(shape) for name, shape in shapes.items()}
        smaller.build_from_config(shapes)
        axes = {id(self._named[name]): axis for name, axis in places.axes.items()}
        values = zip(self._variables, self._values, own_variables(smaller), strict=True)
        for old, value, new in values:
            if value is not None and id(old) in axes:
                value = value.take(self._kept, axes[id(old)])
            new.assign(old if value is None else value)
        return smaller

    def _run(self, given, zeroed=()):
        zeros = {id(self._named[name]) for name in zeroed}
        weights = [
            (v, ops.convert_to_tensor(value * (id(v) not in zeros), v.dtype))
            for v, value in zip(self._variables, self._values, strict=True)
            if value is not None
        ]
        with keras.StatelessScope(weights):
            return run(self._node, given)

    def _zeros(self):
        return _values(np.zeros_like, self._given[0])

    def _has_all(self, shape) -> bool:
        return len(shape) >= 1 - self._axis and shape[self._axis] == self._size

    def _cut(self, value):
        """An array without the positions that are gone."""
        return value.take(self._kept, self._axis) if self._has_all(value.shape) else value

    def _zeroed(self, value):
        """An array with zeros for them."""
        if not self._has_all(value.shape):
            return value
        there = np.zeros(self._size, "float32")
        there[self._kept] = 1
        return value * there.reshape(-1, *[1] * (-1 - self._axis))

    def _cut_shapes(self, shapes):
        if isinstance(shapes, dict):
            return {name: self._cut_shapes(shape) for name, shape in shapes.items()}
        if not all(n is None or type(n) is int for n in shapes):
            return [self._cut_shapes(shape) for shape in shapes]
        if not self._has_all(shapes):
            return shapes
        cut = list(shapes)
        cut[self._axis] = len(self._kept)
        return tuple(cut)


def _values(function, arrays):
    return {key: function(value) for key, value in arrays.items()}


def _each(function, arrays):
    return [function(value) for value in arrays]


def _alike(one, other) -> bool:
    return np.allclose(one, other, rtol=1e-4, atol=1e-5 * _largest(one), equal_nan=True)


def _largest(values) -> float:
    """The largest finite number, at least 1: sums of large numbers are rounded."""
    return float(np.max(np.abs(values[np.isfinite(values)]), initial=1.0))
