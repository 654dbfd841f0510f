"""What lies between dense layers: all that the units of one call flow through."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops, tree

from tfprune.structures.dense import cannot_consume, cannot_produce, describe, is_dense
from tfprune.structures.elementwise import has_array_arguments, is_add, is_elementwise
from tfprune.structures.graph import Graph
from tfprune.structures.splits import has_fixed_sizes, split_ranges


class MustStay(Exception):
    """The units cannot be removed; the message says why.

    Attributes:
        end: As in `SkippedLayer`.
    """

    end = ""


class Region:
    """Everything that the units of one dense call flow through until dense layers read them.

    A dense layer may make several numbers for each unit, in equal parts of its output that are
    taken apart behind it, as a gate and what it gates are where one kernel makes both.

    Args:
        graph: The graph.
        start: The node of a dense layer.

    Attributes:
        units: How many units there are.
        fixed: The nodes that take parts at places which are written down in the call.

    Raises:
        MustStay: If the units reach anything but element-wise operations and dense layers.
    """

    def __init__(self, graph: Graph, start: Any):
        self.graph = graph
        self.units = start.outputs[0].shape[-1] // _parts_behind(graph, start.outputs[0])
        self.tensors: dict[int, Any] = {}
        self.producers: list[Any] = []
        self.operations: list[Any] = []
        self.consumers: list[Any] = []
        self.fixed: list[Any] = []
        try:
            self._grow(start.outputs[0])
        except MustStay as reason:
            if any(is_add(node.operation) for node in self.operations):
                reason.end = "residual"
            elif any(graph.leaves(tensor) for tensor in self.tensors.values()):
                reason.end = "output"
            raise

    @property
    def looks_at_masks(self) -> bool:
        """Whether masked positions get another value, as in Keras's layer `Multiply`."""
        looking = (keras.layers.Multiply, keras.layers.Maximum, keras.layers.Minimum)
        return any(
            isinstance(node.operation, looking)
            and any(self.graph.is_masked(t) for t in node.input_tensors)
            for node in self.operations
        )

    def _grow(self, start):
        pending = [start]
        while pending:
            tensor = pending.pop()
            if id(tensor) not in self.tensors:
                self.tensors[id(tensor)] = tensor
                pending.extend(self._from(tensor))
                pending.extend(self._into(tensor))
        if not self.consumers:
            raise MustStay("nothing reads its output")

    def _from(self, tensor):
        node = self.graph.producer(tensor)
        if node is None:
            raise MustStay("its output is mixed with an input of the model")
        if is_dense(node.operation):
            reason = cannot_produce(node.operation)
            if reason:
                raise MustStay(reason)
            if node not in self.producers:
                self.producers.append(node)
            return []
        if split_ranges(node):
            return self._apart(node)
        if not is_elementwise(node.operation):
            raise MustStay(f"its output is mixed with that of {describe(node.operation)}")
        return self._through(node)

    def _into(self, tensor):
        if self.graph.leaves(tensor):
            raise MustStay("its output is an output of the model")
        found = []
        for node in self.graph.consumers(tensor):
            if is_dense(node.operation):
                reason = cannot_consume(node.operation)
                if tensor.shape[-1] != self.units:
                    reason = "it reads several numbers of each unit"
                if reason:
                    raise MustStay(f"its output goes to {node.operation.name}: {reason}")
                if node not in self.consumers:
                    self.consumers.append(node)
            elif is_elementwise(node.operation):
                found += self._through(node)
            elif split_ranges(node):
                found += self._apart(node)
            else:
                raise MustStay(f"its output goes to {describe(node.operation)}")
        return found

    def _apart(self, node):
        """Goes through an operation that takes the numbers of each unit apart."""
        if node in self.operations:
            return []
        whole = all(
            start % self.units == 0 and stop - start == self.units
            for start, stop in split_ranges(node) or ()
        )
        if not whole or node.input_tensors[0].shape[-1] % self.units:
            raise MustStay(f"{describe(node.operation)} takes some of its units only")
        self.operations.append(node)
        if has_fixed_sizes(node):
            self.fixed.append(node)
        return [*node.outputs, *node.input_tensors]

    def _through(self, node):
        if node in self.operations:
            return []
        if has_array_arguments(node):
            raise MustStay(f"{describe(node.operation)} mixes in an array of its own")
        if isinstance(node.operation, keras.layers.Lambda) and len(node.input_tensors) != 1:
            raise MustStay(f"{describe(node.operation)} is given several tensors")
        self.operations.append(node)
        found = [node.outputs[0]]
        for tensor in node.input_tensors:
            if len(tensor.shape) > 0 and tensor.shape[-1] == node.outputs[0].shape[-1]:
                found.append(tensor)
            elif len(tensor.shape) > 0:
                # A factor for each position is no constant, so its value is unknown here.
                raise MustStay(f"{describe(node.operation)} mixes in a tensor of another width")
        return found

    def emitted(self, consumer, read):
        """What reaches each call of a consumer when the producers' kernels are zero."""
        values: dict[int, Any] = {}
        for node in self.producers:
            bias = node.operation.bias
            width = node.outputs[0].shape[-1]
            value = np.zeros(width, "float32") if bias is None else read(bias)
            activation = node.operation.activation or keras.activations.linear
            values[id(node.outputs[0])] = activation(ops.cast(value[None], "float32"))
        for node in self.graph.nodes:
            if node in self.operations:
                values.update(zip(map(id, node.outputs), _results(node, values), strict=True))
        for node in self.consumers:
            if node.operation is consumer:
                yield ops.convert_to_numpy(values[id(node.input_tensors[0])])[0]


def _parts_behind(graph, tensor) -> int:
    """Into how many equal parts a tensor is taken apart behind element-wise operations, or 1."""
    pending, seen = [tensor], set()
    while pending:
        current = pending.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        for node in graph.consumers(current):
            parts = split_ranges(node)
            if parts:
                start, stop = parts[0]
                width = tensor.shape[-1]
                return (
                    width // (stop - start) if stop > start and width % (stop - start) == 0 else 1
                )
            if is_elementwise(node.operation):
                pending += [t for t in node.outputs if t.shape[-1:] == tensor.shape[-1:]]
    return 1


def _results(node, values) -> list[Any]:
    """What a call returns for the values of one position, `(1, width)`."""
    parts = split_ranges(node)
    if parts:  # The call itself may count the axes in front.
        value = values[id(node.input_tensors[0])]
        return [value[:, start:stop] for start, stop in parts]
    args, kwargs = tree.map_structure(
        lambda x: values.get(id(x), x), (node.arguments.args, node.arguments.kwargs)
    )
    if isinstance(node.operation, keras.Layer):
        return [node.operation.call(*args, **_inference(kwargs))]
    return [node.operation(*args, **kwargs)]


def _inference(kwargs):
    return {**kwargs, "training": False} if "training" in kwargs else kwargs
