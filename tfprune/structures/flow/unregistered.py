"""Layers and operations that no rule is for: what they do with positions is guessed and proven.

It is guessed that a call treats the positions along an axis alone, or that a layer sums over those
along the last axis of what it is given, or makes those of what it gives; and that some of its
variables with an axis of the same size have a place for each of them there. `SmallerCalls` tells
which guess is right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, islice, product
from typing import Any
from weakref import WeakKeyDictionary

import keras
import numpy as np

from tfprune.keras_private.layers import inner_layers, own_variables, own_variables_by_name
from tfprune.structures.dense import describe
from tfprune.structures.flow.rules import has_rule
from tfprune.structures.flow.smaller_calls import Places, SmallerCalls
from tfprune.structures.registry import describe_of, nearest_in_graph_kind, refusal_of

_MOST = 32  # Guesses that are tried.


@dataclass(frozen=True)
class Roles:
    """What the variables of a layer have to do with the positions along an axis.

    Args:
        variables: Attribute, role and axis, as `Use` has them; what makes them comes first.
        sizes: The entries of the layer's configuration that count the positions.
    """

    variables: tuple[tuple[str, str, int], ...]
    sizes: tuple[str, ...]


# What was found out before, by class, for its configuration and the shapes of a call.
_KNOWN: WeakKeyDictionary[type, dict[Any, Roles | None]] = WeakKeyDictionary()


def flow_unregistered(flow: Any, node: Any) -> None:
    """Follows each axis along which positions may leave, as far as it can be told.

    Args:
        flow: The `Flow`.
        node: A call of a layer or operation that no rule is for.
    """
    live = flow.live_axes(node)
    passed = {axis: _known(_passing, node, axis) for axis in live}
    if live and None not in passed.values():
        _pass_on(flow, node, passed)
        return
    read = _known(_reading, node, -1) if live == [-1] else None
    if read is None:
        flow.stop(node, f"it goes to {describe(node.operation)}{_why(node.operation)}")
    else:
        _use(flow, node, read, flow.labels(node.input_tensors[0])[-1])
    made = _known(_making, node, -1)
    labels = None if made is None else _use(flow, node, made, None)
    for tensor in node.outputs:
        flow.set(tensor, [*[None] * (len(tensor.shape) - 1), labels])


def _why(operation) -> str:
    """What keeps the positions that an operation is given, as far as that is known."""
    if isinstance(operation, keras.Layer):
        if _is_described(operation):
            return ""
        if inner_layers(operation):
            return ", which is made of layers and cannot be followed"
    return ", which does not treat each of them alone when it is run on numbers"


def _pass_on(flow, node, passed):
    found: list[list[Any]] = [[None] * len(tensor.shape) for tensor in node.outputs]
    for axis, roles in passed.items():
        labels = [
            flow.labels(tensor)[axis]
            for tensor in node.input_tensors
            if len(tensor.shape) >= -axis and tensor.shape[axis] != 1
        ]
        joined = labels[0]
        for other in labels[1:]:
            reason = f"it goes to {describe(node.operation)} with what must stay"
            joined = flow.join(joined, other, reason)
        if joined is not None:
            _use(flow, node, roles, joined)
        for of_output in found:
            of_output[axis] = joined
    for tensor, of_output in zip(node.outputs, found, strict=True):
        flow.set(tensor, of_output)


def _use(flow, node, roles, labels):
    """Labels the variables of a layer, with labels of their own if there are none; returns them."""
    for attribute, role, axis in roles.variables:
        labels = flow.use(node.operation, attribute, axis, role, labels, roles.sizes)
    return labels


# -- what is known of a call ----------------------------------------------------------------------


def _known(find: Callable, node: Any, axis: int) -> Roles | None:
    """What `find` returns for a call; `None` where it raises, or what is called is not to be tried.

    Layers of one class and configuration are tried once.
    """
    operation = node.operation
    tensors = [*node.input_tensors, *node.outputs]
    if not all("float" in str(tensor.dtype) for tensor in tensors):
        return None
    try:
        if not isinstance(operation, keras.Layer):
            return find(node, axis)  # What it is told is nowhere to be read.
        if _is_described(operation) or inner_layers(operation):
            return None
        if hasattr(operation, "finalize_state"):
            return None  # It computes with what `adapt` has taken from its variables.
        config = repr({**operation.get_config(), "name": None})
        # A configuration need not say which functions a layer has.
        functions = [
            id(value)
            for name, value in vars(operation).items()
            if callable(value) and not hasattr(keras.Layer, name)
        ]
        shapes = [tuple(tensor.shape) for tensor in tensors]
        key = find, axis, config, operation.trainable, tuple(functions), tuple(shapes)
        known = _KNOWN.setdefault(type(operation), {})
        if key not in known:
            known[key] = find(node, axis)
        return known[key]
    except Exception:  # Whatever a layer raises that is not given what it expects.
        return None


def _is_described(layer) -> bool:
    """Whether somebody has said what the groups of a layer are, or of a class that it overrides."""
    nearest = nearest_in_graph_kind(layer)
    described = describe_of(layer) or refusal_of(layer)
    return bool(described or (nearest is not None and not has_rule(nearest)))


def _passing(node, axis) -> Roles | None:
    """What a call passes on that treats each position alone."""
    size = _size(node.outputs, axis)
    if size is None or _size(node.input_tensors, axis) != size:
        return None
    if axis != -1 and isinstance(node.operation, keras.Layer) and own_variables(node.operation):
        return None  # Layers are built for the last axis.
    calls = SmallerCalls(node, axis, size)
    places = next(filter(calls.pass_on, _guesses(node.operation, size)), None)
    if places is None or not calls.is_finite_without(places.axes):
        return None
    trained = {name for name in places.axes if getattr(node.operation, name).trainable}
    if not calls.silences(trained):
        trained = set()
    roles = {name: "ride" if name in trained else "statistic" for name in places.axes}
    return Roles(tuple((n, roles[n], a) for n, a in places.axes.items()), places.sizes)


def _reading(node, axis) -> Roles | None:
    """What a layer sums over."""
    return _by_kernels(
        node, axis, node.input_tensors, ("read", "statistic"), lambda calls, at, _: calls.read(at)
    )


def _making(node, axis) -> Roles | None:
    """What a layer makes."""
    return _by_kernels(
        node,
        axis,
        node.outputs,
        ("make", "ride"),
        lambda calls, at, kernels: calls.make(at) and calls.is_constant_without(kernels),
    )


def _by_kernels(node, axis, tensors, roles, is_right) -> Roles | None:
    """The first right guess by which kernels have to do with the positions of a single tensor.

    Args:
        node: The call.
        axis: The axis of the tensor, counted from the last.
        tensors: All that the call is given, or all that it gives.
        roles: The role of kernels, and that of other variables.
        is_right: Tells it, from `SmallerCalls`, a guess and its kernels.
    """
    size = _size(tensors, axis)
    if len(tensors) != 1 or size is None or not isinstance(node.operation, keras.Layer):
        return None
    calls = SmallerCalls(node, axis, size)
    for places in _guesses(node.operation, size):
        kernels = _kernels(node.operation, places)
        if kernels and is_right(calls, places, kernels):
            ordered = sorted(places.axes, key=lambda name: name not in kernels)
            found = ((n, roles[n not in kernels], places.axes[n]) for n in ordered)
            return Roles(tuple(found), places.sizes)
    return None


def _size(tensors, axis) -> int | None:
    """How many positions there are, `None` if it is not told or tensors have different numbers.

    A tensor with one position has it for all of them.
    """
    found = {tensor.shape[axis] for tensor in tensors if len(tensor.shape) >= 1 - axis} - {1}
    return found.pop() if len(found) == 1 and None not in found else None


def _guesses(operation, size) -> Iterator[Places]:
    """The likely ones first: all variables, their last axes, and no entry of the configuration."""
    if not isinstance(operation, keras.Layer):
        yield Places({})
        return
    axes: dict[str, list[int | None]] = {}
    for name, variable in own_variables_by_name(operation).items():
        fitting = [a for a in reversed(range(len(variable.shape))) if variable.shape[a] == size]
        if fitting:
            axes[name] = [*fitting, None]
    counts = [
        name
        for name, value in operation.get_config().items()
        if axes and type(value) is int and value == size
    ]
    entries = [x for many in range(len(counts) + 1) for x in combinations(counts, many)]
    ways = [
        {name: axis for name, axis in zip(axes, way, strict=True) if axis is not None}
        for way in product(*axes.values())
    ]
    for way, sizes in islice(product(ways, entries), _MOST):
        yield Places(way, sizes)


def _kernels(layer, places) -> list[str]:
    """The variables that have more than a number for each position."""
    shapes = {name: getattr(layer, name).shape for name in places.axes}
    return [
        name for name, axis in places.axes.items() if np.prod(shapes[name]) > shapes[name][axis]
    ]
