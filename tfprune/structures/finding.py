"""Finds the structures of a model."""

from __future__ import annotations

import keras
from keras import tree

from tfprune.errors import in_one_line
from tfprune.keras_private.layers import inner_layers, layer_and_inner_layers, own_variables
from tfprune.model_parts import end_interrupted_fit
from tfprune.structures.by_shape import AtPositions, find_by_running, find_heads, find_own_units
from tfprune.structures.collection import Structures
from tfprune.structures.crossing import find_crossing
from tfprune.structures.flattening import FlatGraph, Inside
from tfprune.structures.graph import Graph, Untraceable, graph_of, trace
from tfprune.structures.positions import holds_only_positions
from tfprune.structures.registry import (
    Describe,
    describe_of,
    graph_kinds,
    is_in_graph_kind,
    refusal_of,
)
from tfprune.structures.running import Running, as_symbols
from tfprune.structures.skipped import SkippedLayer
from tfprune.structures.sorting_out import sorted_out
from tfprune.structures.structure import Structure
from tfprune.structures.unpruned import Unpruned, has_matrix


def find_structures(model: keras.Layer) -> Structures:
    """Finds everything that can be removed from a model while it stays dense.

    Looks into Functional, Sequential, nested and subclassed models and into layers made of
    layers, such as KerasHub's `TransformerEncoder`. Nothing raises on an unknown layer: what
    cannot be pruned is listed with the reason in `Structures.skipped`.

    Args:
        model: A built Keras model or layer.

    Returns:
        `Structures`, which prints as a table.

    Raises:
        ValueError: If `model` is no Keras layer or is not built.

    Example:

    >>> import keras, tfprune
    >>> model = keras.Sequential([
    ...     keras.Input((16,)),
    ...     keras.layers.Dense(64, "relu", name="hidden"),
    ...     keras.layers.Dense(2, name="out"),
    ... ])
    >>> tfprune.find_structures(model)[0]
    <FeedForwardUnits hidden: 64 groups of 19>
    """
    if not isinstance(model, keras.Layer):
        raise ValueError(f"`model` must be a Keras model or layer. Received: model={model!r}")
    if not model.built:
        raise ValueError(
            "`model` must be built, so that its weights exist: give it an `Input`, or call it "
            f"once on data. Received: model={model.name!r}, which is not built."
        )
    end_interrupted_fit(model)
    search = _Search(model)
    search.look_into(model, prefix="", call=None)
    search.find_crossing()
    search.unpruned.note_unseen(model)
    return search.result()


class _Search:
    def __init__(self, model: keras.Layer):
        self.running = Running(model)
        self.found: list[Structure] = []
        self.unpruned = Unpruned()
        self.seen: set[int] = set()
        self.places: dict[int, set[str]] = {}  # layer -> graphs that call it
        self.owners: dict[int, set[int]] = {}  # variable -> layers that hold it
        self.inside: dict[int, Inside] = {}  # layers whose calls are known -> what is in them
        self.roots: list[tuple[keras.Layer, Graph, str]] = []  # layers whose calls are not

    def look_into(
        self,
        layer: keras.Layer,
        prefix: str,
        call,
        opaque: bool = False,
        outer=None,
        used: tuple[bool, ...] | None = None,
    ) -> None:
        """Searches the graph inside a layer, then the layers in it.

        Args:
            layer: The layer.
            prefix: What comes before the names of the layers in it.
            call: The node that calls it, if it is known.
            opaque: Whether it is called by a layer whose graph is unknown.
            outer: The graph of the call.
            used: Which of the tensors that it returns are read by others; `None` if all may be.
        """
        self.seen.add(id(layer))
        self._note_owners(layer)
        self._note_whole(layer, prefix.rstrip("/") or layer.name, call=call)
        try:
            graph, of_this_call = self._graph(layer, call, opaque, outer)
        except Untraceable as reason:
            found = self._by_running(layer, prefix.rstrip("/") or layer.name)
            self.found += found
            why = None if found else refusal_of(layer) or str(reason)
            self._skip_all(layer, prefix, why)
            return
        except Exception as error:  # Whatever user code raises, in `build` or a configuration.
            self._skip_all(layer, prefix, f"it cannot be looked into ({in_one_line(error)})")
            return
        self.unpruned.note_shown(graph)
        if call is None or not of_this_call:
            self.roots.append((layer, graph, prefix))
        else:
            self.inside[id(layer)] = Inside(graph, call, prefix)
        self._note_heads(layer, graph, prefix.rstrip("/") or layer.name, used)
        self._look_at_calls(layer, graph, prefix, used, prefix or layer.name)

    def _look_again(self, layer, prefix, call, outer, number) -> None:
        """Searches what a layer does when it is called in another way, with another flag say."""
        try:
            graph = graph_of(layer, call, outer=outer)
        except Exception:  # Whatever user code raises. What was seen of it is known already.
            return
        self.unpruned.note_shown(graph)
        self.inside.pop(id(layer), None)  # What is in it is no part of one graph of the model.
        self._look_at_calls(layer, graph, prefix, None, f"{prefix}{number}")

    def _look_at_calls(self, layer, graph: Graph, prefix: str, used, place: str) -> None:
        """Searches a graph, then the layers that are called in it.

        Args:
            layer: The layer with the graph.
            graph: The graph.
            prefix: What comes before the names of the layers in it.
            used: Which outputs of the graph are read by others; `None` if all may be.
            place: What tells the graph from others in which the same layers are called.
        """
        in_graph = self._in_graph(graph, prefix, place)
        for node in graph.nodes:
            inner = node.operation
            self.found += in_graph.pop(id(inner), [])
            if not isinstance(inner, keras.Layer) or id(inner) in self.seen:
                continue
            describe = describe_of(inner)
            if describe and not refusal_of(inner):
                self.seen.add(id(inner))
                self._describe(describe, inner, graph, prefix)
            elif is_in_graph_kind(inner):
                continue
            elif isinstance(inner, AtPositions):
                self.seen.update(id(x) for x in layer_and_inner_layers(inner))
                reason = "it stands in the place of a layer that has lost heads, and loses no more"
                self.unpruned.skip(inner, f"{prefix}{inner.name}", reason)
            elif inner_layers(inner) and not isinstance(inner, keras.layers.RNN):
                # One call under a mask is enough for the layers inside to be masked.
                call = max(
                    graph.calls(inner), key=lambda c: any(map(graph.is_masked, c.input_tensors))
                )
                read = _read(graph, inner, used)
                self.look_into(inner, f"{prefix}{inner.name}/", call, outer=graph, used=read)
                for number, other in enumerate(_other_ways(graph.calls(inner), call)):
                    self._look_again(inner, f"{prefix}{inner.name}/", other, graph, number)
            else:
                parts = layer_and_inner_layers(inner)
                self._note_whole(inner, f"{prefix}{inner.name}", parts, node)
        self.unpruned.note_hidden(layer, graph, prefix, self.seen)

    def _graph(self, layer, call, opaque, outer) -> tuple[Graph, bool]:
        """The graph inside a layer, and whether it takes what the call in the outer graph gives."""
        try:
            return graph_of(layer, call, masked=opaque, outer=outer), True
        except Untraceable as reason:
            # Layers may need more than symbols: sizes that fit, or what only their callers know.
            given = self.running.arguments(layer)
            if given is None:
                raise
            try:
                return trace(layer, *as_symbols(given)), False
            except Untraceable:
                raise reason from None

    def _by_running(self, layer, name) -> list[Structure]:
        given = self.running.arguments(layer)
        structures = [] if given is None else list(find_by_running(layer, given, name))
        for structure in structures:
            structure.masked = structure.takes_masks = True  # For all that is known.
        return structures

    def _note_heads(self, layer, graph, name, used):
        """Notes the heads of attention that a layer computes itself, with dense layers in it."""
        if graph.arguments is None:
            return  # The operations of a Functional model keep sizes that cannot be rewritten.
        given = [t for t in tree.flatten(graph.arguments) if isinstance(t, keras.KerasTensor)]
        for found in find_heads(layer, graph, name, used, self.running):
            if isinstance(found, SkippedLayer):
                refusal = refusal_of(layer)
                self.unpruned.skip(
                    layer, name, f"{refusal}; {found.reason}" if refusal else found.reason
                )
                continue
            found.masked = found.takes_masks = any(map(graph.is_masked, given))
            self.found.append(found)

    def find_crossing(self) -> None:
        """Adds the structures that lie in several layers made of layers."""
        for layer, graph, prefix in self.roots:
            flat = FlatGraph(layer, graph, self.inside, prefix)
            if not flat.crossings:
                continue
            known = {(id(share.variable), share.axis) for s in self.found for share in s.slices}
            for result in find_crossing(flat, known):
                makers = {id(result.layer)} if isinstance(result, SkippedLayer) else set()
                if isinstance(result, Structure):
                    makers = {id(share.layer) for share in result.producers}
                    self._insert(result, flat)
                # What was said of a part of the way.
                self.unpruned.forget(makers)
                if isinstance(result, SkippedLayer):
                    name = flat.names[id(result.layer)]
                    self.unpruned.skip(result.layer, name, result.reason)

    def _insert(self, structure, flat):
        """Puts a structure where its first layer comes among those of the others."""
        place = {id(node.operation): i for i, node in reversed([*enumerate(flat.nodes)])}
        first = place[id(next(structure.layers()))]
        behind = [
            i
            for i, other in enumerate(self.found)
            if place.get(id(next(other.layers())), -1) > first
        ]
        self.found.insert(behind[0] if behind else len(self.found), structure)

    def _in_graph(self, graph: Graph, prefix: str, place: str) -> dict[int, list[Structure]]:
        """The structures between the layers of a graph, by the `id` of their first layer."""
        structures: dict[int, list[Structure]] = {}
        for node in graph.nodes:
            if _may_hold_shares(node.operation):
                self.places.setdefault(id(node.operation), set()).add(place)
        for find in graph_kinds():
            for result in find(graph, lambda layer: f"{prefix}{layer.name}"):
                if isinstance(result, Structure):
                    structures.setdefault(id(next(result.layers())), []).append(result)
                else:
                    self.unpruned.skip_result(result, prefix)
        return structures

    def _describe(self, describe: Describe, layer: keras.Layer, graph: Graph, prefix: str) -> None:
        name = f"{prefix}{layer.name}"
        calls = graph.calls(layer)
        if any(getattr(x, "quantization_mode", None) for x in layer_and_inner_layers(layer)):
            self.unpruned.skip(layer, name, "it is quantized")
            return
        if any(getattr(x, "lora_enabled", False) for x in layer_and_inner_layers(layer)):
            self.unpruned.skip(layer, name, "it has LoRA weights; merge them first")
            return
        try:
            structure = describe(layer, name)
        except (ValueError, AttributeError) as error:
            self.unpruned.skip(layer, name, str(error))
            return
        reason = structure.cannot_be_cut(calls)
        if reason:
            self.unpruned.skip(layer, name, reason)
            return
        structure.masked = any(graph.is_masked(node.input_tensors[0]) for node in calls)
        structure.takes_masks = any(
            graph.is_masked(t) for node in calls for t in node.input_tensors
        )
        self.found.append(structure)

    def _skip_all(self, layer: keras.Layer, prefix: str, reason: str | None) -> None:
        """Lists a layer whose graph is unknown, with a reason, and searches the layers in it.

        What happens between the layers of an unknown graph is unknown, but not what happens inside
        each of them. Without a reason it is not listed.
        """
        if reason and any(has_matrix(x) for x in layer_and_inner_layers(layer)):
            self.unpruned.skip(layer, prefix.rstrip("/") or layer.name, reason)
        for inner in inner_layers(layer, recursive=False):
            if id(inner) in self.seen or isinstance(inner, keras.layers.RNN):
                continue
            is_described = describe_of(inner) and not refusal_of(inner)
            if inner_layers(inner) and not is_in_graph_kind(inner) and not is_described:
                self.look_into(inner, f"{prefix}{inner.name}/", None, opaque=True)
        self.seen.update(id(x) for x in layer_and_inner_layers(layer))
        self.unpruned.shown.update(id(x) for x in layer_and_inner_layers(layer))

    def _note_whole(self, layer, name, parts=None, call=None):
        """Lists a layer with matrices of its own, of a class that no kind is registered for.

        Unless the units are found whose weights it holds itself.
        """
        if id(layer) in self.unpruned.noted or not any(has_matrix(x) for x in parts or [layer]):
            return
        self.unpruned.noted.add(id(layer))
        found = []
        if has_matrix(layer) and not type(layer).__module__.startswith("keras."):
            found = list(find_own_units(layer, call and _arguments(call), name, self.running))
        self.found += found
        if not found:
            reason = f"no kind of structure is registered for {type(layer).__name__}"
            if holds_only_positions(layer):
                reason = "its weights are a table of positions, which has no groups"
            self.unpruned.skip(layer, name, reason)

    def _note_owners(self, layer):
        for inner in layer_and_inner_layers(layer):
            for variable in own_variables(inner):
                self.owners.setdefault(id(variable), set()).add(id(inner))

    def result(self) -> Structures:
        """What was found, without what cannot be cut everywhere alike."""
        return sorted_out(self.found, self.unpruned.skipped, self.places, self.owners)


def _may_hold_shares(operation) -> bool:
    """Whether a layer may have weights of groups that are found in a graph of calls."""
    if is_in_graph_kind(operation):
        return True
    # Groups may pass a layer that nobody has described.
    is_layer = isinstance(operation, keras.Layer)
    return is_layer and not inner_layers(operation) and not describe_of(operation)


def _read(graph: Graph, layer, used) -> tuple[bool, ...] | None:
    """Which of the tensors that a layer returns are read, in any of its calls.

    Args:
        graph: The graph with the calls.
        layer: The layer.
        used: Which outputs of the graph are read themselves.
    """
    leaving = {id(t) for i, t in enumerate(graph.outputs) if used is None or used[i]}
    calls = [
        [bool(graph.consumers(t)) or id(t) in leaving for t in node.outputs]
        for node in graph.calls(layer)
    ]
    same = len({len(call) for call in calls}) == 1
    return tuple(map(any, zip(*calls, strict=True))) if same else None


def _other_ways(calls, call) -> list:
    """The calls of a layer that are given other things than tensors than one of them is."""

    def way(node):
        given = node.arguments.args, node.arguments.kwargs
        told = tree.map_structure(
            lambda x: "tensor" if isinstance(x, keras.KerasTensor) else repr(x), given
        )
        return repr(told)

    ways = {way(node): node for node in reversed(calls)}
    ways.pop(way(call))
    return list(ways.values())


def _arguments(call):
    return call.arguments.args, call.arguments.kwargs
