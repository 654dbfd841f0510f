"""Heads of attention layers that no kind is registered for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from inspect import signature

import keras

from tfprune.structures.by_shape.groups import GroupsByShape
from tfprune.structures.by_shape.guesses import guesses_of_heads
from tfprune.structures.by_shape.proven import Given, proven
from tfprune.structures.by_shape.roles import find_roles
from tfprune.structures.elementwise import is_identity
from tfprune.structures.graph import Graph
from tfprune.structures.running import Running
from tfprune.structures.skipped import SkippedLayer
from tfprune.structures.structure import Structure


def find_heads(
    layer: keras.Layer,
    graph: Graph,
    name: str,
    used: Sequence[bool] | None = None,
    running: Running | None = None,
) -> Iterator[Structure | SkippedLayer]:
    """Finds the heads of the attention that a layer computes with dense layers.

    Args:
        layer: A built layer made of layers, of a class that no kind is registered for.
        graph: Its graph, from a call on symbolic tensors.
        name: The layer's path.
        used: Which of the tensors that it returns are read; all of them by default. Others, such as
            attention scores that nobody asks for, may have an axis for heads.
        running: Knows what the layer is given when the model runs; asked where numbers in the place
            of the symbols do not fit together.

    Yields:
        Structures of the kind `"heads"`, or the reason why heads cannot be told.
    """
    roles = find_roles(graph)
    if not roles:
        return
    given: list[Given] = [
        graph.arguments,
        lambda: None if running is None else running.arguments(layer),
    ]
    guesses = lambda trial: [guesses_of_heads(layer, each) for each in roles]  # noqa: E731
    for found in proven(layer, "heads", guesses, given, used):
        if isinstance(found, str):
            yield SkippedLayer(layer, f"its heads cannot be told apart: {found}")
        else:
            whole = _returns_heads(layer, graph, found[0])
            yield GroupsByShape("heads", name, layer, *found, whole)


def _returns_heads(layer, graph, guess) -> bool:
    consumers = [share for share in guess.slices if share.role == "consumer"]
    if len(consumers) != 1 or not isinstance(graph.result, keras.KerasTensor):
        return False
    (share,) = consumers
    if len(share.variable.shape) != len(share.connection_axes) + 1:
        return False
    bias = share.bias_variable
    if bias is not None and len(bias.shape) != 1:
        return False
    node = graph.producer(graph.outputs[0])
    while node is not None and is_identity(node.operation):
        node = graph.producer(node.input_tensors[0])
    if node is None or node.operation is not share.layer:
        return False
    # What stands for it has a vector for each position of the first argument.
    args, kwargs = graph.arguments
    given = signature(layer.call).bind(*args, **kwargs).arguments
    first = keras.tree.flatten(next(iter(given.values())))[0]
    return tuple(first.shape[:-1]) == tuple(graph.outputs[0].shape[:-1])
