"""Wrappers that are seen through: a call of one is a call of the layer inside."""

from __future__ import annotations

from typing import Any

import keras


class Transparent:
    """Mixed into a wrapper that computes what the layer inside computes, as `layer`.

    Structures are found, and layers are cut, as if the layer inside stood in its place.
    """

    layer: keras.Layer


class SeenThrough:
    """A Keras node of a call of a wrapper, shown as a call of the layer inside.

    Args:
        node: The node.
    """

    def __init__(self, node: Any):
        self._node = node
        self.operation = plain_layer(node.operation)

    def __getattr__(self, name):
        return getattr(self._node, name)


def plain_layer(operation: Any) -> Any:
    """The layer inside a wrapper, or inside wrappers; what is none is returned as it is."""
    while isinstance(operation, Transparent):
        operation = operation.layer
    return operation


def seen_through(node: Any) -> Any:
    """A node as structures are to see it."""
    return SeenThrough(node) if isinstance(node.operation, Transparent) else node
