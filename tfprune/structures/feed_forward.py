"""Units of feed-forward pairs: dense layer, element-wise operations, dense layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from tfprune.structures.elementwise import (
    has_array_arguments,
    is_add,
    is_elementwise,
    is_elementwise_function,
)
from tfprune.structures.graph import Graph
from tfprune.structures.overriding import reason_of
from tfprune.structures.registry import register_graph_kind
from tfprune.structures.structure import Remainder, SkippedLayer, Slices, Structure


class FeedForwardUnits(Structure):
    """The units between dense layers.

    Usually one layer makes them and one reads them. Gated feed-forward networks have two makers
    whose units are multiplied; several layers may read the same units; a layer called in several
    places (tied decoder layers) has one region for each place.

    Args:
        name: The path of the first producer.
        groups: The number of units.
        producers: The dense layers that make the units.
        consumers: The dense layers that read them.
        regions: The operations between, one `Region` for each place.
    """

    kind = "ffn"

    def __init__(self, name, groups, producers, consumers, regions):
        self.regions = regions
        self._producer_ids = {id(layer) for layer in producers}
        slices = []
        for layer in producers:
            slices.append(Slices(layer, "kernel", 1, "producer"))
            if layer.bias is not None:
                slices.append(Slices(layer, "bias", 0, "producer"))
        slices += [
            Slices(layer, "kernel", 0, "consumer", bias="bias", reads_input=True)
            for layer in consumers
        ]
        super().__init__(name, groups, tuple(slices))
        if any(layer.bias is not None and len(layer.bias.shape) > 1 for layer in consumers):
            self.least = 1  # Without units it would be no vector that stands at every place.

    def emitted(self, consumer, read):
        """The activation of the bias, carried through the operations between."""
        values = [
            value
            for region in self.regions
            for value in region.emitted(consumer.layer, read, self.groups)
        ]
        if not values or any(not np.array_equal(values[0], v) for v in values[1:]):
            return None
        return values[0]

    def is_constant(self, emitted):
        """All units; or none, where a padded position gets another value than the rest."""
        constant = super().is_constant(emitted)
        return constant & (not any(region.looks_at_masks for region in self.regions))

    def resized_config(self, layer, groups):
        """Fewer units; a consumer's width of input follows by itself."""
        if id(layer) not in self._producer_ids:
            return {}
        if isinstance(layer, keras.layers.EinsumDense):
            shape = layer.partial_output_shape
            return {"output_shape": [*shape[:-1], groups]}
        return {"units": groups}

    def remainders(self):
        """The biases of the layers that read the units."""
        return [
            Remainder(
                s.layer, s.bias_variable, (s.variable.shape[1],), s.layer.activation, s.variable
            )
            for s in self.consumers
        ]


class MustStay(Exception):
    """The units cannot be removed; the message says why.

    Attributes:
        end: As in `SkippedLayer`.
    """

    end = ""


class Region:
    """Everything that the units of one dense call flow through until dense layers read them.

    Args:
        graph: The graph.
        start: The node of a dense layer.

    Raises:
        MustStay: If the units reach anything but element-wise operations and dense layers.
    """

    def __init__(self, graph: Graph, start: Any):
        self.graph = graph
        self.units = start.outputs[0].shape[-1]
        self.tensors: dict[int, Any] = {}
        self.producers: list[Any] = []
        self.operations: list[Any] = []
        self.consumers: list[Any] = []
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
                if reason:
                    raise MustStay(f"its output goes to {node.operation.name}: {reason}")
                if node not in self.consumers:
                    self.consumers.append(node)
            elif is_elementwise(node.operation):
                found += self._through(node)
            else:
                raise MustStay(f"its output goes to {describe(node.operation)}")
        return found

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
            if len(tensor.shape) > 0 and tensor.shape[-1] == self.units:
                found.append(tensor)
            elif len(tensor.shape) > 0:
                # A factor for each position is no constant, so its value is unknown here.
                raise MustStay(f"{describe(node.operation)} mixes in a tensor of another width")
        return found

    def emitted(self, consumer, read, groups):
        """What reaches each call of a consumer when the producers' kernels are zero."""
        values: dict[int, Any] = {}
        for node in self.producers:
            bias = node.operation.bias
            value = np.zeros(groups, "float32") if bias is None else read(bias)
            activation = node.operation.activation or keras.activations.linear
            values[id(node.outputs[0])] = activation(ops.cast(value[None], "float32"))
        for node in self.graph.nodes:
            if node in self.operations:
                replace = lambda x: values.get(id(x), x)  # noqa: E731
                args = tree.map_structure(replace, node.arguments.args)
                kwargs = tree.map_structure(replace, node.arguments.kwargs)
                if isinstance(node.operation, keras.Layer):
                    values[id(node.outputs[0])] = node.operation.call(*args, **_inference(kwargs))
                else:
                    values[id(node.outputs[0])] = node.operation(*args, **kwargs)
        for node in self.consumers:
            if node.operation is consumer:
                yield ops.convert_to_numpy(values[id(node.input_tensors[0])])[0]


def _inference(kwargs):
    return {**kwargs, "training": False} if "training" in kwargs else kwargs


@register_graph_kind(keras.layers.Dense, keras.layers.EinsumDense)
def find_feed_forward(graph: Graph, name_of: Callable[[keras.Layer], str]):
    """Finds the feed-forward pairs of a graph.

    Args:
        graph: The graph.
        name_of: Gives a layer's path.

    Yields:
        `FeedForwardUnits`, or `SkippedLayer` for a dense layer whose units must stay.
    """
    regions: dict[int, Region | MustStay] = {}
    for node in graph.nodes:
        if is_dense(node.operation):
            try:
                regions[id(node)] = Region(graph, node)
            except MustStay as reason:
                regions[id(node)] = reason

    done: set[int] = set()
    for node in graph.nodes:
        layer = node.operation
        if not is_dense(layer) or id(layer) in done:
            continue
        done.add(id(layer))
        calls = [regions[id(call)] for call in graph.calls(layer)]
        reason = _reason(calls, graph)
        if reason:
            ends = {getattr(call, "end", "") for call in calls}
            yield SkippedLayer(layer, reason, ends.pop() if len(ends) == 1 else "")
            continue
        producers = _layers(calls[0].producers)
        done.update(id(p) for p in producers)
        consumers = _layers(calls[0].consumers)
        yield FeedForwardUnits(name_of(layer), calls[0].units, producers, consumers, calls)


def _layers(nodes):
    return list({id(n.operation): n.operation for n in nodes}.values())


def _reason(calls, graph) -> str | None:
    """Why the calls of one dense layer do not make one structure, if they do not."""
    for call in calls:
        if isinstance(call, MustStay):
            where = f" (in one of the {len(calls)} places where it is called)" * (len(calls) > 1)
            return str(call) + where
    partners = {
        (
            frozenset(id(n.operation) for n in call.producers),
            frozenset(id(n.operation) for n in call.consumers),
        )
        for call in calls
    }
    if len(partners) > 1:
        return "its weights are shared by places with different neighbours"
    inside = {id(t) for call in calls for t in call.tensors.values()}
    for consumer in _layers(calls[0].consumers):
        if any(id(node.input_tensors[0]) not in inside for node in graph.calls(consumer)):
            return f"{consumer.name} also reads something else elsewhere"
    made_inside = {id(node) for call in calls for node in call.producers}
    for producer in _layers(calls[0].producers):
        if any(id(node) not in made_inside for node in graph.calls(producer)):
            return f"{producer.name} is also called elsewhere"
    return None


def is_dense(operation) -> bool:
    """Whether an operation is a Keras dense layer."""
    return isinstance(operation, (keras.layers.Dense, keras.layers.EinsumDense))


def cannot_produce(layer) -> str | None:
    """Why the units of a dense layer cannot be told apart, if so."""
    if not is_elementwise_function(layer.activation):
        return f"its activation {_function_name(layer.activation)} mixes units"
    if layer.bias is not None and len(layer.bias.shape) != 1:
        return "its bias has more than one axis"
    return cannot_consume(layer)


def cannot_consume(layer) -> str | None:
    """Why a dense layer's kernel is no plain matrix from the last axis to the last, if so."""
    if getattr(layer, "quantization_mode", None):
        return "it is quantized"
    if getattr(layer, "lora_enabled", False):
        return "it has LoRA weights; merge them first"
    is_einsum = isinstance(layer, keras.layers.EinsumDense)
    reason = reason_of(layer, keras.layers.EinsumDense if is_einsum else keras.layers.Dense)
    if reason is not None or not is_einsum:
        return reason
    if layer.bias is not None and layer.bias.shape[-1] != layer.kernel.shape[-1]:
        return "its bias has no axis for its units"
    inputs, rest = layer.equation.replace(" ", "").split(",")
    kernel, outputs = rest.split("->")
    plain = (
        len(kernel) == 2
        and inputs[-1] == kernel[0]
        and outputs[-1] == kernel[1]
        and inputs[:-1] == outputs[:-1]
        and kernel[1] not in inputs
    )
    return None if plain else f"its equation {layer.equation} is no product over the last axis"


def _function_name(function) -> str:
    return getattr(function, "__name__", type(function).__name__)


def describe(operation) -> str:
    """An operation in words: its class, and the name of a layer; others have only a number."""
    kind = type(operation).__name__
    return f"{operation.name} ({kind})" if isinstance(operation, keras.Layer) else kind
