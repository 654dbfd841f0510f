"""What reaches the layers that read channels which their makers make no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from tfprune.keras_private.functional import operation_classes
from tfprune.keras_private.layers import own_variables
from tfprune.structures.convolutions import (
    PLAIN,
    SEPARABLE,
    TRANSPOSED,
    has_borders,
    is_grouped,
    reads_windows,
)
from tfprune.structures.dense import is_dense
from tfprune.structures.flow import Flow, Use
from tfprune.structures.flow.labels import places
from tfprune.structures.flow.moves import flow_moves
from tfprune.structures.flow.products import PRODUCTS
from tfprune.structures.flow.rules import rule_of
from tfprune.structures.flow.running import run, shape_of
from tfprune.structures.recurrent import cells_of, is_zero_at_zero, weight_layers
from tfprune.structures.slices import Slices

_MULTIPLYING = (layers.Multiply, *operation_classes(["Multiply"]), *PRODUCTS)
_LOOKING_AT_MASKS = (layers.Multiply, layers.Maximum, layers.Minimum)
# What multiplies each channel: where it is zero, it does not matter what it is given.
_FACTORS = ("gamma", "kernel", "depthwise_kernel")


class Emission:
    """The calls between the layers that make channels and those that read them, run on arrays.

    A channel is constant where the kernel of its maker is zero, and what comes of it is constant
    as long as it meets nothing else. Zeros stand for what is not constant and for all that comes
    from elsewhere.

    Args:
        flow: The flow through the graph.
        nodes: The calls, in their order, from those of the makers to those of the readers.
        classes: The classes of the labels of the channels, sorted.
        makers: `id` of a layer that makes them to the axes of its kernels.
        read: Gives the value of a variable.
    """

    def __init__(
        self,
        flow: Flow,
        nodes: Sequence[Any],
        classes: np.ndarray,
        makers: Mapping[int, Sequence[Use]],
        read: Callable[[Any], np.ndarray],
    ):
        self._flow = flow
        self._nodes = nodes
        self._classes = classes
        self._makers = makers
        self._read = read
        self._values: dict[int, np.ndarray] = {}
        self._constant: dict[int, np.ndarray] = {}  # for each group

    def into(self, readers: Sequence[Slices], carried: bool = False) -> list[np.ndarray | None]:
        """What kernels are given of each channel.

        Args:
            readers: Slices of the kernels that read them.
            carried: Whether a constant is one also where it cannot become part of a bias.

        Returns:
            For each of them an array of the positions that are summed over, NaN where they have no
            constant; `None` if it is given another one at another call.
        """
        wanted = {id(share.variable) for share in readers}
        found: dict[int, np.ndarray | None] = {}

        def note(variable, one):
            other = found.setdefault(id(variable), one)
            if other is not None and not _are_equal(other, one):
                found[id(variable)] = None

        for node in self._nodes:
            cells = cells_of(node.operation)
            if self._owner(node.input_tensors[0]) is not None:
                for variable in _reading(node.operation):
                    if id(variable) in wanted:
                        note(variable, self._given(node, carried))
            if any(id(layer) in self._makers for layer in weight_layers(node.operation)):
                (self._make_units if cells else self._make)(node)
                for cell in cells:
                    note(cell.recurrent_kernel, self._given_by_states(node, cell))
            elif any(self._owner(tensor) is not None for tensor in node.outputs):
                self._pass(node)
        return [found[id(share.variable)] for share in readers]

    def _owner(self, tensor) -> tuple[int, np.ndarray] | None:
        """The axis of a tensor along which the channels lie, and the group of each position."""
        for axis, labels in enumerate(self._flow.labels(tensor)):
            if labels is None:
                continue
            owner = places(self._classes, self._flow.classes.of(labels))
            if np.any(owner >= 0):
                return axis, owner
        return None

    def _make(self, node) -> None:
        layer, output = node.operation, node.outputs[0]
        silent = np.logical_and.reduce([self._is_zero_along(x) for x in self._makers[id(layer)]])
        if rule_of(layer) is None:  # It makes the same of whatever it is given.
            given = {id(t): np.zeros(shape_of(t), "float32") for t in node.input_tensors}
            (value,) = self._run(node, given)
            value = np.where(silent, value, 0)
        else:
            bias = np.zeros(len(silent)) if layer.bias is None else self._read(layer.bias)
            value = np.where(silent, bias, 0).astype("float32")
            value = np.broadcast_to(value, shape_of(output))
            if layer.activation is not None:
                value = ops.convert_to_numpy(layer.activation(ops.convert_to_tensor(value)))
        self._values[id(output)] = value
        self._constant[id(output)] = self._by_group(output, silent)

    def _make_units(self, node) -> None:
        """Units of a recurrent layer stay at zero where all their weights and biases are zero."""
        constant = np.ones(len(self._classes), bool)
        for cell in cells_of(node.operation):
            for use in self._flow.uses:
                if use.layer is cell and use.role in ("make", "ride"):
                    owner = places(self._classes, self._flow.of_use(use))
                    constant &= self._in_all(owner, self._is_zero_along(use))
            constant &= is_zero_at_zero(cell)
        for tensor in node.outputs:
            self._values[id(tensor)] = np.zeros(shape_of(tensor), "float32")
            self._constant[id(tensor)] = constant

    def _given_by_states(self, node, cell) -> np.ndarray:
        """Zero for the units of a cell that stay at zero, NaN for the others."""
        use = next(
            u
            for u in self._flow.uses
            if u.layer is cell and u.role == "read" and u.attribute == "recurrent_kernel"
        )
        owner = places(self._classes, self._flow.of_use(use))
        constant = self._constant[id(node.outputs[0])]
        return np.where(np.append(constant, False)[owner], 0.0, np.nan)

    def _is_zero_along(self, use) -> np.ndarray:
        """At which positions along its axis a variable is zero throughout."""
        value = np.moveaxis(self._read(use.variable), use.axis, 0)
        return ~np.any(value.reshape(len(value), -1), axis=1)

    def _run(self, node, given):
        """What a call returns with the weights as they are read here."""
        own = own_variables(node.operation) if isinstance(node.operation, keras.Layer) else []
        weights = [(v, ops.convert_to_tensor(self._read(v))) for v in own]
        with keras.StatelessScope(weights):
            return run(node, given)

    def _in_all(self, owner: np.ndarray, holds: np.ndarray) -> np.ndarray:
        """In which groups something holds at all positions that belong to them."""
        result = np.ones(len(self._classes), bool)
        result[owner[(owner >= 0) & ~holds]] = False
        return result

    def _by_group(self, tensor, holds: np.ndarray) -> np.ndarray:
        """In which groups something holds at all positions of the tensor's axis of channels."""
        _, owner = self._owner(tensor) or (-1, np.full(len(holds), -1))
        return self._in_all(owner, holds)

    def _pass(self, node) -> None:
        """Runs a call; its outputs are constant where what it is given is."""
        operation = node.operation
        constant = np.ones(len(self._classes), bool)
        zero = np.zeros(len(self._classes), bool)
        given = {}
        for tensor in node.input_tensors:
            value = self._values.get(id(tensor))
            own = self._constant.get(id(tensor))
            if value is None or own is None:
                given[id(tensor)] = np.zeros(shape_of(tensor), "float32")
                # It meets the channels, unless the call only puts it beside them.
                constant &= rule_of(operation) is flow_moves
                continue
            given[id(tensor)] = value
            constant &= own
            zero |= own & self._by_group(tensor, self._is_zero(tensor, value))
        if isinstance(operation, _MULTIPLYING):
            constant |= zero
        try:
            results = self._run(node, given)
        except Exception:  # Whatever an operation raises that is not given what it expects.
            results = [np.zeros(shape_of(tensor), "float32") for tensor in node.outputs]
            constant[:] = False
        constant |= self._without_factor(node)
        if isinstance(operation, _LOOKING_AT_MASKS) and self._is_masked(node):
            constant[:] = False  # What is masked gets another value.
        for tensor, value in zip(node.outputs, results, strict=True):
            if self._owner(tensor) is not None:  # Of what is split a part may be of others alone.
                self._values[id(tensor)] = value
                self._constant[id(tensor)] = constant

    def _is_masked(self, node) -> bool:
        return any(map(self._flow.graph.is_masked, node.input_tensors))

    def _is_zero(self, tensor, value) -> np.ndarray:
        found = self._owner(tensor)
        assert found is not None  # It was labelled by the flow.
        axis, _ = found
        return ~np.any(np.moveaxis(value, axis, 0).reshape(value.shape[axis], -1), axis=1)

    def _without_factor(self, node) -> np.ndarray:
        """The groups that the layer multiplies by zero, whatever it is given."""
        zero = np.zeros(len(self._classes), bool)
        if rule_of(node.operation) is None:
            return zero  # What its variables do is unknown.
        for use in self._flow.uses:
            if use.layer is node.operation and use.role == "ride" and use.attribute in _FACTORS:
                owner = places(self._classes, self._flow.of_use(use))
                if np.any(owner >= 0):
                    zero |= self._in_all(owner, self._is_zero_along(use))
        return zero

    def _given(self, node, carried) -> np.ndarray:
        """One number for each position that a layer reads, NaN where there is no constant."""
        tensor, layer = node.input_tensors[0], node.operation
        axis, owner = self._owner(tensor) or (-1, np.zeros(0, int))
        value = np.moveaxis(self._values[id(tensor)], axis, 0)
        flat = value.reshape(len(value), -1)
        is_constant = np.append(self._constant[id(tensor)], False)[owner]
        is_constant &= np.all(_are_close(flat, flat[:, :1]), axis=1)
        vector = np.where(is_constant, flat[:, 0], np.nan)
        if carried and _is_linear(layer):
            return vector
        if rule_of(layer) is None or cells_of(layer):
            return np.where(vector == 0, 0.0, np.nan)
        if is_grouped(layer):
            each = vector.reshape(layer.groups, -1)
            return np.where(np.all(each == 0, axis=0), 0.0, np.nan)
        if isinstance(layer, SEPARABLE):
            vector = np.repeat(vector, layer.depth_multiplier)
            kernel = self._read(layer.depthwise_kernel)
            unread = ~np.any(kernel.reshape(-1, len(vector)), axis=0)
            return np.where(unread | (vector == 0), 0.0, np.nan)
        if not is_dense(layer) and not (reads_windows(layer) and not has_borders(layer)):
            return np.where(vector == 0, 0.0, np.nan)
        return vector


def _are_close(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where numbers are equal but for rounding, which depends on where they lie in an array."""
    return np.isclose(one, other, rtol=1e-6, atol=0, equal_nan=True)


def _are_equal(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and bool(np.all(_are_close(one, other)))


def _reading(operation) -> list[keras.Variable]:
    """The variables of a call that may read what it is given, unlike those that read states."""
    if not isinstance(operation, keras.Layer):
        return []
    found = [v for layer in weight_layers(operation) for v in own_variables(layer)]
    states = [id(cell.recurrent_kernel) for cell in cells_of(operation)]
    return [variable for variable in found if id(variable) not in states]


def _is_linear(layer) -> bool:
    """Whether a layer adds up channels, each times weights that no other one has."""
    if rule_of(layer) is None or is_grouped(layer):
        return False
    return is_dense(layer) or isinstance(layer, (*PLAIN, *TRANSPOSED)) or bool(cells_of(layer))
