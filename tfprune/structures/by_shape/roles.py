"""Which dense layers make the heads of an attention layer, and which read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import keras

from tfprune.keras_private.functional import operation_classes
from tfprune.structures.dense import is_dense
from tfprune.structures.graph import Graph

_SOFTMAX = operation_classes(["Softmax"])
_FUSED = operation_classes(["DotProductAttention"])


class Roles(NamedTuple):
    """The dense layers around one or more attention softmaxes.

    Args:
        producers: Those whose outputs reach the consumers: queries, keys, values, gates.
        consumers: Those that read what the heads found.
        sizes: Sizes of axes of the attention scores that may be that of the heads.
    """

    producers: tuple[keras.Layer, ...]
    consumers: tuple[keras.Layer, ...]
    sizes: tuple[int, ...]


def find_roles(graph: Graph) -> list[Roles]:
    """The roles of dense layers in a graph, one entry for each attention in it.

    Args:
        graph: The graph inside a layer.

    Returns:
        `Roles`; none where no softmax lies between dense layers.
    """
    found: list[tuple[set[int], set[int], set[int]]] = []
    dense = {id(node.operation): node.operation for node in graph.nodes if is_dense(node.operation)}
    for node in graph.nodes:
        if not _is_softmax(node.operation):
            continue
        readers = _reached(node.outputs, graph.consumers, lambda n: n.outputs)
        makers = _reached(
            [t for reader in readers for t in reader.input_tensors],
            lambda t: [made for made in [graph.producer(t)] if made is not None],
            lambda n: n.input_tensors,
        )
        consumers = {id(n.operation) for n in readers}
        producers = {id(n.operation) for n in makers} - consumers
        if not consumers or not producers:
            continue
        found.append((producers, consumers, _sizes(node)))
    return merged(found, dense)


def merged(
    found: Iterable[tuple[set[int], set[int], set[int]]], dense: Mapping[int, keras.Layer]
) -> list[Roles]:
    """Roles, those that have layers in common as one.

    Two streams that attend to each other have their heads in common.

    Args:
        found: Ids of producers, ids of consumers and sizes, of each.
        dense: The dense layers by `id`.
    """
    apart: list[tuple[set[int], set[int], set[int]]] = []
    for one in found:
        for other in [x for x in apart if x[0] & one[0] or x[1] & one[1]]:
            apart.remove(other)
            one = (one[0] | other[0], one[1] | other[1], one[2] | other[2])
        apart.append(one)
    return [
        Roles(
            tuple(layer for key, layer in dense.items() if key in producers),
            tuple(layer for key, layer in dense.items() if key in consumers),
            tuple(sorted(sizes)),
        )
        for producers, consumers, sizes in apart
    ]


def _is_softmax(operation) -> bool:
    if isinstance(operation, keras.layers.Softmax):
        return True
    if isinstance(operation, keras.layers.Activation):
        return operation.activation is keras.activations.softmax
    return type(operation) in (*_SOFTMAX, *_FUSED)


def _sizes(node) -> set[int]:
    """The known sizes of attention scores `(batch, heads, ..., queries, keys)` between the ends."""
    shape = node.input_tensors[0].shape
    if type(node.operation) in _FUSED:
        # Queries, keys and values are `(batch, positions, heads, head size)`.
        return {t.shape[2] for t in node.input_tensors[:3] if len(t.shape) == 4 and t.shape[2]}
    return {size for size in shape[1:-2] if size}


def _reached(tensors: Iterable[Any], step, beyond) -> list[Any]:
    """The nodes of dense layers that are reached first from tensors, in one direction."""
    seen: set[int] = set()
    reached: dict[int, Any] = {}
    pending = list(tensors)
    while pending:
        tensor = pending.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        for node in step(tensor):
            if is_dense(node.operation):
                reached[id(node)] = node
            else:
                pending.extend(beyond(node))
    return list(reached.values())
