"""What takes the constants that a layer is no more given: its bias, or a moving mean behind it."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from tfprune.structures.flow.rules import rule_of
from tfprune.structures.graph import Graph


def added_behind(graph: Graph, layer: keras.Layer) -> dict[str, Any]:
    """Where constants can be added to what a layer sums up.

    `BatchNormalization` subtracts its moving mean, which is as good as a bias where nothing else
    lies between: in training the mean of the batch takes what is constant away.

    Args:
        graph: The graph with its calls.
        layer: A layer that has a rule.

    Returns:
        The arguments of `Slices`, none if there is no such place.
    """
    if getattr(layer, "bias", None) is not None:
        return {"bias": "bias"}
    norm = _normalization_behind(graph, layer)
    if norm is None:
        return {}
    return {"bias": "moving_mean", "bias_layer": norm, "bias_sign": -1}


def _normalization_behind(graph, layer) -> layers.BatchNormalization | None:
    """The layer that is given all that another one makes, and nothing else."""
    if getattr(layer, "activation", None) not in (None, keras.activations.linear):
        return None
    made = [node.outputs[0] for node in graph.calls(layer)]
    readers = [reader for tensor in made for reader in graph.consumers(tensor)]
    found = {id(reader.operation): reader.operation for reader in readers}
    if len(found) != 1 or len(readers) != len(made) or any(map(graph.leaves, made)):
        return None
    (norm,) = found.values()
    is_known = isinstance(norm, layers.BatchNormalization) and rule_of(norm) is not None
    if not is_known or len(graph.calls(norm)) != len(made):
        return None
    return norm if norm.axis in (-1, len(made[0].shape) - 1) else None
