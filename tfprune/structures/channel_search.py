"""Finds the channels and units of a graph: from the flow of positions to structures."""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import layers

from tfprune.keras_private.layers import inner_layers, is_of_keras
from tfprune.structures.by_shape.guesses import Count, Guess
from tfprune.structures.by_shape.proof import Trial
from tfprune.structures.channels import Channels, kind_of
from tfprune.structures.convolutions import CONVOLUTIONS, PLAIN, SEPARABLE, TRANSPOSED
from tfprune.structures.dense import cannot_produce, describe, is_dense
from tfprune.structures.feed_forward import FeedForwardUnits
from tfprune.structures.flow import Family, Flow
from tfprune.structures.flow.over_channels import why_not_by_channel
from tfprune.structures.flow.rules import rule_of
from tfprune.structures.graph import Graph
from tfprune.structures.recurrent import RECURRENT, cells_of, weight_layers, why_whole
from tfprune.structures.registry import (
    is_in_graph_kind,
    nearest_in_graph_kind,
    register_graph_kind,
)
from tfprune.structures.skipped import SkippedLayer

_DENSE = (layers.Dense, layers.EinsumDense)
_BETWEEN = (layers.BatchNormalization, layers.GroupNormalization, layers.PReLU)
_RECURRENT = (*RECURRENT, layers.Bidirectional)


@register_graph_kind(*_DENSE, *CONVOLUTIONS, *_BETWEEN, *_RECURRENT)
def find_channels(graph: Graph, name_of: Callable[[keras.Layer], str]):
    """Finds what the layers of a graph make for others: units, heads and channels.

    Args:
        graph: The graph.
        name_of: Gives a layer's path.

    Yields:
        `Channels` and `FeedForwardUnits`, or `SkippedLayer` for a layer that makes something which
        must stay.
    """
    if not any(_may_make_channels(node.operation) for node in graph.nodes):
        return
    flow = _best_flow(graph)
    outer = {id(cell): n.operation for n in graph.nodes for cell in cells_of(n.operation)}
    found: set[int] = set()
    unfit: dict[int, str] = {}
    for family in flow.families:
        maker = next(use.layer for use, _ in family.owners if use.role == "make")
        structure = _structure(name_of(outer.get(id(maker), maker)), flow, family)
        unproven = flow.unproven_calls(family)
        # Heads are proven by `find_heads`, once for all layers that are alike.
        if unproven and (structure.kind == "heads" or not _still_fits(graph, structure)):
            written = f"{describe(unproven[0].operation)} has sizes or places written in it"
            unfit |= dict.fromkeys(map(id, structure.layers()), written)
            continue
        found.update(id(use.layer) for use, _ in family.owners if use.role == "make")
        yield structure
    leaving = {id(tensor) for tensor in graph.outputs}
    ending = {id(n.operation) for n in graph.nodes if leaving & set(map(id, n.outputs))}
    making = {id(use.layer): use for use in flow.uses if use.role == "make"}

    def skipped(layer):
        own = [id(x) for x in weight_layers(layer)]
        if any(key in found for key in own):
            return None
        uses = [making[key] for key in own if key in making]
        said = next(filter(None, [*map(unfit.get, own), *map(flow.reason, uses)]), None)
        is_one = _makes_one_number(layer, uses)  # As attention over positions does.
        if is_one:
            said = "it makes one number, which stays"
        if isinstance(layer, _RECURRENT):
            said = why_whole(layer) or said
        if is_dense(layer):
            said = cannot_produce(layer) or said
        if isinstance(layer, CONVOLUTIONS):
            said = why_not_by_channel(layer) or said
        if id(layer) in ending:  # Whatever its activation is.
            return SkippedLayer(layer, "its output is an output of the model", "output")
        said = said or "nothing that can be told apart reads what it makes"
        return SkippedLayer(layer, said, flow.end(uses[0]) if uses and not is_one else "")

    yield from filter(None, map(skipped, _makers(graph)))


def _makes_one_number(layer, uses) -> bool:
    cells = cells_of(layer)
    if cells:
        return all(cell.units == 1 for cell in cells)
    return any(use.variable.shape[use.axis] == 1 for use in uses)


def _structure(name: str, flow: Flow, family: Family) -> Channels:
    ends = [use.layer for use, _ in family.owners if use.role in ("make", "read")]
    is_between_dense = kind_of(flow, family) == "ffn" and all(map(is_dense, ends))
    return (FeedForwardUnits if is_between_dense else Channels)(name, flow, family)


def _best_flow(graph) -> Flow:
    """The flow in which most weights can leave, of those that follow other axes."""
    first = Flow(graph)
    others = (Flow(graph, choice) for choice in range(1, first.choices))
    return max(first, *others, key=lambda flow: flow.weights) if first.choices > 1 else first


def _still_fits(graph, structure) -> bool:
    """Whether a layer computes with some channels what it computes with the others silenced.

    Sizes that its `call` has worked out from those of tensors follow by themselves.
    """
    counts = []
    for layer in structure.layers():
        changes = structure.resized_config(layer, structure.groups - 1)
        for name, value in changes.items():
            if isinstance(getattr(layer, name, None), int):
                counts.append(Count(layer, name, getattr(layer, name) - value))
    guess = Guess(structure.groups, structure.slices, tuple(counts))
    try:
        return Trial(graph.layer, *graph.arguments).why_not(guess) is None
    except Exception:  # Whatever user code raises.
        return False


def _may_make_channels(operation) -> bool:
    """Whether a call may be one of a layer that makes something for others."""
    if not isinstance(operation, keras.Layer):
        return False
    is_known = is_of_keras(operation) or rule_of(operation) is not None
    return is_in_graph_kind(operation) or not (is_known or inner_layers(operation))


def _makers(graph) -> list[keras.Layer]:
    """The layers of a graph that make something, each once."""
    kinds = (*_DENSE, *PLAIN, *TRANSPOSED, *SEPARABLE, *_RECURRENT)
    each = {id(node.operation): node.operation for node in graph.nodes}
    return [layer for layer in each.values() if nearest_in_graph_kind(layer) in kinds]
