"""One graph of a whole model: the calls inside layers in the place of the calls of these layers.

Units that one layer made of layers makes and another one reads lie in no graph of a single layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import keras
from keras import tree

from tfprune.keras_private.functional import functional_inside, inputs_struct
from tfprune.structures.graph import Graph


@dataclass(frozen=True)
class Inside:
    """What is known of the inside of a layer.

    Args:
        graph: Its graph.
        call: The node of the call that was traced.
        prefix: What comes before the names of the layers in it.
    """

    graph: Graph
    call: Any
    prefix: str


@dataclass(frozen=True)
class Crossing:
    """A call in whose place the calls inside it stand.

    Args:
        node: The node of the call.
        given: The tensors that it is given, as they are in the flattened graph, by the `id` of
            those in `node`.
        made: The tensors that it returns, likewise.
        inside: What is given, in the place of the inputs of the graph inside, by their `id`.
    """

    node: Any
    given: Mapping[int, Any]
    made: Mapping[int, Any]
    inside: Mapping[int, Any]


class FlatNode:
    """A node between the tensors of a flattened graph.

    Args:
        node: The node, of the graph of a layer.
        input_tensors: What it is given.
        outputs: What it makes.
        tensors: The tensors in the place of those of `node`, by `id`.
        is_functional: Whether it stands in the graph that a Functional model has of itself.
    """

    is_input = False

    def __init__(
        self,
        node: Any,
        input_tensors: list,
        outputs: list,
        tensors: Mapping[int, Any],
        is_functional: bool,
    ):
        self.operation = node.operation
        self.input_tensors = input_tensors
        self.outputs = outputs
        self.is_functional = is_functional
        self._node = node
        self._tensors = tensors

    @cached_property
    def arguments(self) -> SimpleNamespace:
        """The arguments of the call."""
        given = self._node.arguments
        args, kwargs = tree.map_structure(
            lambda x: self._tensors.get(id(x), x), (given.args, given.kwargs)
        )
        return SimpleNamespace(args=args, kwargs=kwargs)


class FlatGraph(Graph):
    """The graph of a layer with the calls inside the layers in it.

    Args:
        layer: The layer.
        graph: Its graph.
        inside: What is known of the layers that it calls, by `id`. The calls of others stay calls.
        prefix: What comes before the names of the layers in it.

    Attributes:
        crossings: The calls in whose place those inside stand.
        names: Paths of layers, by `id`.
    """

    def __init__(self, layer: keras.Layer, graph: Graph, inside: Mapping[int, Inside], prefix: str):
        opaque: set[int] = {id(layer)}
        while True:
            self.crossings: list[Crossing] = []
            self.names: dict[int, str] = {}
            self._sources: dict[int, list[tuple[Graph, Any]]] = {}
            self._copied: set[int] = set()
            found: list[Any] = []
            tensors: dict[int, Any] = {}
            changed = self._add(graph, prefix, tensors, inside, opaque, found)
            if changed is None:
                break
            opaque.add(changed)
        outputs = [tensors.get(id(t), t) for t in graph.outputs]
        super().__init__(found, outputs, graph.arguments, graph.result, graph.layer)

    def is_masked(self, tensor) -> bool:
        """Whether a tensor carries a Keras mask in the graph of a layer that it comes from."""
        return any(graph.is_masked(t) for graph, t in self._sources.get(id(tensor), ()))

    @property
    def can_be_run(self) -> bool:
        """No: what it shows lies in several layers."""
        return False

    def is_functional(self, node) -> bool:
        """Whether a call stands in the graph that a Functional model has of itself."""
        return node.is_functional

    def _add(self, graph, prefix, tensors, inside, opaque, found) -> int | None:
        """Adds the nodes of a graph.

        Returns:
            The `id` of a layer whose calls must stay calls, if one is found; `None` if all is well.
        """
        again = any(id(t) in self._copied for node in graph.nodes for t in node.outputs)
        for node in graph.nodes:
            if node.is_input and any(id(t) in tensors for t in node.outputs):
                continue  # It is what the call is given.
            self.names.setdefault(id(node.operation), f"{prefix}{node.operation.name}")
            known = inside.get(id(node.operation))
            if known is not None and id(node.operation) not in opaque:
                own = _given(node, known, tensors)
                if own is None:
                    return id(node.operation)
                given = {id(t): tensors.get(id(t), t) for t in node.input_tensors}
                inputs = dict(own)
                around = {*opaque, id(node.operation)}
                changed = self._add(known.graph, known.prefix, own, inside, around, found)
                if changed is not None:
                    return changed
                if not _returned(node, known, own, tensors):
                    return id(node.operation)
                made = {id(t): tensors[id(t)] for t in node.outputs}
                self.crossings.append(Crossing(node, given, made, inputs))
                continue
            for t in node.outputs:
                if again:  # The graph stands here for another call, with tensors of its own.
                    tensors[id(t)] = keras.KerasTensor(t.shape, dtype=t.dtype)
                self._copied.add(id(t))
                made = tensors.get(id(t), t)
                self._sources.setdefault(id(made), []).append((graph, t))
            found.append(
                FlatNode(
                    node,
                    [tensors.get(id(t), t) for t in node.input_tensors],
                    [tensors.get(id(t), t) for t in node.outputs],
                    tensors,
                    graph.is_functional(node),
                )
            )
        return None


def _given(node, known: Inside, tensors) -> dict[int, Any] | None:
    """What stands for the inputs of a layer's graph in one call; `None` if the call is another."""
    outer = node.arguments.args, node.arguments.kwargs
    inner: tuple[Any, dict[str, Any]]
    if known.graph.arguments is None:
        functional = known.call.operation
        if isinstance(functional, keras.Sequential):
            functional = functional_inside(functional)
        inner, outer = ((inputs_struct(functional),), {}), (outer[0], {})
    else:
        inner = known.graph.arguments
        first = known.call.arguments
        if node is not known.call and not _alike((first.args, first.kwargs), outer):
            return None
    own: dict[int, Any] = {}
    pairs = [(tuple(inner[0]), tuple(outer[0]))]
    pairs += [(value, outer[1][name]) for name, value in inner[1].items() if name in outer[1]]
    for inside, outside in pairs:
        if not _same_structure(inside, outside):
            return None
        inside, outside = tree.flatten(inside), tree.flatten(outside)
        for t, given in zip(inside, outside, strict=True):
            if not isinstance(t, keras.KerasTensor):
                continue
            given = tensors.get(id(given), given)
            if own.setdefault(id(t), given) is not given:
                return None  # Two tensors, where the call that was traced had one.
    return own


def _alike(first, second) -> bool:
    """Whether two calls are given the same but for the tensors, and these have the same shapes."""
    if not _same_structure(first, second):
        return False
    for a, b in zip(tree.flatten(first), tree.flatten(second), strict=True):
        if isinstance(a, keras.KerasTensor) and isinstance(b, keras.KerasTensor):
            if tuple(a.shape) != tuple(b.shape) or a.dtype != b.dtype:
                return False
        elif a is not b and not (isinstance(a, (bool, int, float, str)) and a == b):
            return False
    return True


def _same_structure(first, second) -> bool:
    try:
        tree.assert_same_structure(first, second)
    except (TypeError, ValueError):
        return False
    return True


def _returned(node, known: Inside, own, tensors) -> bool:
    """Notes what stands for the outputs of a call; whether they are those of the layer's graph."""
    made = known.graph.outputs
    if known.graph.arguments is not None:
        made = [x for x in tree.flatten(known.graph.result) if x is not None]
    if len(made) != len(node.outputs):
        return False
    for outer, inner in zip(node.outputs, made, strict=True):
        if not isinstance(inner, keras.KerasTensor):
            tensors[id(outer)] = outer  # A constant.
        elif inner.shape[-1:] != outer.shape[-1:]:
            return False
        else:
            tensors[id(outer)] = own.get(id(inner), inner)
    return True
