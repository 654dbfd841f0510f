"""Finds the channels of a graph: from the flow of positions to structures."""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import layers

from tfprune.keras_private.layers import inner_layers, is_of_keras
from tfprune.structures.by_shape.guesses import Count, Guess
from tfprune.structures.by_shape.proof import Trial
from tfprune.structures.channels import Channels
from tfprune.structures.convolutions import CONVOLUTIONS, PLAIN, SEPARABLE, TRANSPOSED
from tfprune.structures.dense import describe, is_dense
from tfprune.structures.flow import Flow
from tfprune.structures.flow.rules import rule_of
from tfprune.structures.flow.written import REWRITTEN
from tfprune.structures.graph import Graph
from tfprune.structures.recurrent import RECURRENT, cells_of, weight_layers, why_whole
from tfprune.structures.regions import MustStay, Region
from tfprune.structures.registry import nearest_in_graph_kind, register_graph_kind
from tfprune.structures.skipped import SkippedLayer

# Units of dense layers pass these; other layers that have a rule are element-wise.
_BETWEEN = (layers.BatchNormalization, layers.GroupNormalization, layers.PReLU)
_RECURRENT = (*RECURRENT, layers.Bidirectional)


@register_graph_kind(*CONVOLUTIONS, *_BETWEEN, *_RECURRENT)
def find_channels(graph: Graph, name_of: Callable[[keras.Layer], str]):
    """Finds the channels of a graph of convolutions.

    Args:
        graph: The graph.
        name_of: Gives a layer's path.

    Yields:
        `Channels`, or `SkippedLayer` for a convolution whose channels must stay.
    """
    if not any(_makes_or_carries_channels(graph, node) for node in graph.nodes):
        return
    flow = _best_flow(graph)
    outer = {id(cell): n.operation for n in graph.nodes for cell in cells_of(n.operation)}
    found: set[int] = set()
    unfit: dict[int, str | None] = {}
    for family in flow.families:
        maker = next(use.layer for use, _ in family.owners if use.role == "make")
        first = outer.get(id(maker), maker)
        structure = Channels(name_of(first), flow, family)
        if structure.kind == "ffn" and _is_pair(graph, first):
            continue
        unproven = flow.unproven_calls(family)
        if unproven and not _still_fits(graph, structure):
            written = f"{describe(unproven[0].operation)} has sizes or places written in it"
            unfit |= dict.fromkeys(map(id, structure.layers()), written)
            continue
        found.update(id(use.layer) for use, _ in family.owners if use.role == "make")
        yield structure
    reasons = {id(use.layer): flow.reason(use) for use in flow.uses if use.role == "make"}
    reasons = {**unfit, **{key: reason for key, reason in reasons.items() if reason}}

    def reason_for(layer):
        own = [id(x) for x in weight_layers(layer)]
        if any(key in found for key in own):
            return None
        said = next((reasons[key] for key in own if key in reasons), None)
        if isinstance(layer, _RECURRENT):
            said = why_whole(layer) or said
        return said or "nothing that can be told apart reads its channels"

    yield from _skipped(graph, reason_for)


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


def _makes_or_carries_channels(graph, node) -> bool:
    """Whether a call shows that there is more than pairs of dense layers to be looked for."""
    layer = node.operation
    if isinstance(layer, (*CONVOLUTIONS, *_BETWEEN, *_RECURRENT, layers.Reshape)):
        return True
    if isinstance(layer, REWRITTEN) and graph.is_functional(node):
        return True
    known = is_of_keras(layer) or is_dense(layer) or not isinstance(layer, keras.Layer)
    return not known and not inner_layers(layer) and rule_of(layer) is None


def _skipped(graph, reason_for):
    makers = (*PLAIN, *TRANSPOSED, *SEPARABLE, *_RECURRENT)
    each = {id(node.operation): node.operation for node in graph.nodes}
    for layer in each.values():
        if nearest_in_graph_kind(layer) in makers:
            reason = reason_for(layer)
            if reason is not None:
                yield SkippedLayer(layer, reason)


def _is_pair(graph, layer) -> bool:
    """Whether the units of a dense layer are found as those of feed-forward pairs."""
    try:
        regions = [Region(graph, node) for node in graph.calls(layer)]
    except MustStay:
        return False
    return not any(region.fixed for region in regions)
