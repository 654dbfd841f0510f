"""Structures whose groups lie in several layers made of layers."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import keras
from keras import tree

from tfprune.keras_private.functional import functional_inside, is_functional
from tfprune.keras_private.layers import inner_layers
from tfprune.keras_private.tracing import missing_outputs, own_output_shapes
from tfprune.structures.flattening import Crossing, FlatGraph
from tfprune.structures.registry import graph_kinds
from tfprune.structures.skipped import SkippedLayer
from tfprune.structures.structure import Structure


def find_crossing(
    graph: FlatGraph, known: Collection[tuple[int, int]]
) -> Iterator[Structure | SkippedLayer]:
    """Finds the structures of a flattened graph that the graphs of single layers do not show.

    Only kinds whose structures tell which tensors carry their groups are looked for, so that it is
    known which calls these go through.

    Args:
        graph: The graph.
        known: The axes of variables, `(id, axis)`, of the structures that were found before.

    Yields:
        Structures, or `SkippedLayer` where a layer on the way expects a certain width.
    """
    hidden = {
        id(inner)
        for node in graph.nodes
        if isinstance(node.operation, keras.Layer)
        for inner in inner_layers(node.operation)
    }
    for find in graph_kinds():
        for found in find(graph, lambda layer: graph.names[id(layer)]):
            if not isinstance(found, Structure) or not found.tensors:
                continue
            if any((id(share.variable), share.axis) in known for share in found.slices):
                continue
            layers = list(found.layers())
            if any(id(layer) in hidden for layer in layers):
                continue  # It is called in a way that is not known, too.
            reason = _why_not(graph, found)
            if reason is not None:
                yield SkippedLayer(layers[0], reason)
                continue
            # A layer in whose place stands another one would show other widths on both sides.
            found.least = max(found.least, 1)
            found.crosses = True
            found.entered = [x for crossing in graph.crossings for x in _entered(crossing, found)]
            yield found


def _entered(crossing: Crossing, found: Structure) -> Iterator[tuple[keras.Layer, int, int]]:
    """The inputs of a model that carry groups, as in `Structure.entered`."""
    layer = crossing.node.operation
    functional = functional_inside(layer) if isinstance(layer, keras.Sequential) else layer
    if not is_functional(functional):
        return
    entering = [crossing.inside.get(id(tensor)) for tensor in functional.inputs]
    if not any(tensor is not None for tensor in entering):
        # Under a mask its graph is that of a call, in which its own inputs are not met.
        call = crossing.node.arguments
        given = call.args[0] if call.args else call.kwargs["inputs"]
        entering = [crossing.given.get(id(tensor)) for tensor in tree.flatten(given)]
    for number, given in enumerate(entering):
        if given is not None and id(given) in found.tensors:
            yield layer, number, given.shape[-1] // found.groups


def _why_not(graph: FlatGraph, found: Structure) -> str | None:
    for crossing in graph.crossings:
        reason = _expects_a_width(crossing, found)
        if reason is not None:
            return f"{crossing.node.operation.name}, which it goes through, {reason}"
    return None


def _expects_a_width(crossing: Crossing, found: Structure) -> str | None:
    """Why a layer cannot be given fewer groups, or return fewer, if so."""
    layer = crossing.node.operation
    given = {key for key, t in crossing.given.items() if id(t) in found.tensors}
    made = {key for key, t in crossing.made.items() if id(t) in found.tensors}
    if not given and not made:
        return None
    if isinstance(layer, keras.Sequential) or is_functional(layer):
        return None
    if given and layer.input_spec is not None:
        return "checks the width of its input"
    if not own_output_shapes(layer):
        return None
    # It is asked about one group more.
    wider = lambda t: t.shape[-1] // found.groups * (found.groups + 1)  # noqa: E731

    def widened(x):
        if id(x) not in given:
            return x
        return keras.KerasTensor((*x.shape[:-1], wider(x)), dtype=x.dtype)

    arguments = crossing.node.arguments
    args, kwargs = tree.map_structure(widened, (arguments.args, arguments.kwargs))
    expected = [wider(t) if id(t) in made else t.shape[-1] for t in crossing.node.outputs]
    try:
        with missing_outputs():
            spec = layer.compute_output_spec(*args, **kwargs)
        widths = [t.shape[-1] for t in tree.flatten(spec) if t is not None]
    except Exception:  # Whatever user code raises.
        widths = []
    return None if widths == expected else "says itself how wide its output is"
