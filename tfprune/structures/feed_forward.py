"""Units of feed-forward pairs: dense layer, element-wise operations, dense layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import keras
import numpy as np

from tfprune.errors import in_one_line
from tfprune.structures.added_behind import added_behind
from tfprune.structures.by_shape.guesses import Guess
from tfprune.structures.by_shape.proof import Trial
from tfprune.structures.dense import is_dense
from tfprune.structures.graph import Graph
from tfprune.structures.regions import MustStay, Region
from tfprune.structures.registry import register_graph_kind
from tfprune.structures.skipped import SkippedLayer
from tfprune.structures.slices import Slices
from tfprune.structures.structure import Remainder, Structure


class FeedForwardUnits(Structure):
    """The units between dense layers.

    Usually one layer makes them and one reads them. Gated feed-forward networks have two makers
    whose units are multiplied, or one that makes both and is taken apart; several layers may read
    the same units; a layer called in several places (tied decoder layers) has one region for each
    place.

    Args:
        name: The path of the first producer.
        groups: The number of units.
        producers: The dense layers that make the units.
        consumers: The dense layers that read them.
        regions: The operations between, one `Region` for each place.
    """

    works_by_kernels = True
    kind = "ffn"

    def __init__(self, name, groups, producers, consumers, regions):
        self.regions = regions
        self._producer_ids = {id(layer) for layer in producers}
        slices = []
        for layer in producers:
            parts = layer.kernel.shape[-1] // groups
            segments = (groups,) * parts if parts > 1 else None
            slices.append(Slices(layer, "kernel", 1, "producer", segments=segments))
            if layer.bias is not None:
                slices.append(Slices(layer, "bias", 0, "producer", segments=segments))
        slices += [
            Slices(
                layer,
                "kernel",
                0,
                "consumer",
                reads_input=True,
                **added_behind(regions[0].graph, layer),
            )
            for layer in consumers
        ]
        super().__init__(name, groups, tuple(slices))
        for region in regions:
            self.tensors |= region.tensors
        if any(layer.bias is not None and len(layer.bias.shape) > 1 for layer in consumers):
            self.least = 1  # Without units it would be no vector that stands at every place.
        if any(s.segments for s in slices):
            self.least = 1  # Nothing could be taken apart.

    def emitted(self, consumer, read):
        """The activation of the bias, carried through the operations between."""
        values = [
            value for region in self.regions for value in region.emitted(consumer.layer, read)
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
        width = layer.kernel.shape[-1] // self.groups * groups
        if isinstance(layer, keras.layers.EinsumDense):
            shape = layer.partial_output_shape
            return {"output_shape": [*shape[:-1], width]}
        return {"units": width}

    def remainders(self):
        """The biases of the layers that read the units."""
        return [
            Remainder(s.layer, s.layer.bias, (s.variable.shape[1],), s.layer.activation, s.variable)
            for s in self.consumers
        ]


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
            except MustStay as stays:
                regions[id(node)] = stays

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
        places = cast("list[Region]", calls)  # Without a reason, none of them must stay.
        producers = _layers(places[0].producers)
        done.update(id(p) for p in producers)
        consumers = _layers(places[0].consumers)
        found = FeedForwardUnits(name_of(layer), places[0].units, producers, consumers, places)
        reason = _why_not_split(found, graph)
        yield found if reason is None else SkippedLayer(layer, reason)


def _layers(nodes):
    return list({id(n.operation): n.operation for n in nodes}.values())


def _why_not_split(found: FeedForwardUnits, graph: Graph) -> str | None:
    """Why units cannot be taken apart once there are fewer, if so.

    Places that are written down in a call stay as they are. Where they come from the shape of a
    tensor, what is cut is taken apart as before, which is shown on numbers.
    """
    if not any(region.fixed for region in found.regions):
        return None
    if graph.layer is None or graph.arguments is None:
        return "its output is taken apart at places that are written down in the model"
    try:
        wrong = Trial(graph.layer, *graph.arguments).why_not(Guess(found.groups, found.slices, ()))
    except Exception as error:  # Whatever user code raises.
        wrong = f"it does not run on made-up numbers ({in_one_line(error)})"
    if wrong is None:
        return None
    return f"its output is taken apart at places that do not follow from its width: {wrong}"


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
            call.units,
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
