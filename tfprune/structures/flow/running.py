"""Runs one call of a graph on arrays."""

from __future__ import annotations

from inspect import signature
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from tfprune.keras_private.functional import operation_classes

_RESHAPE = operation_classes(["Reshape"])
UNKNOWN = 64
"""What stands for a size that a graph leaves open: enough for the strides of a network."""


def shape_of(tensor: Any, batch: int = 1) -> tuple[int, ...]:
    """The shape of an array that stands for a symbolic tensor.

    Args:
        tensor: The tensor.
        batch: The size of its first axis where that is open.
    """
    first, *rest = tensor.shape
    return (batch if first is None else first, *(UNKNOWN if n is None else n for n in rest))


def run(
    node: Any,
    values: dict[int, np.ndarray],
    operation: Any | None = None,
    arguments: tuple[tuple, dict[str, Any]] | None = None,
) -> list[np.ndarray]:
    """What a call returns at inference.

    Args:
        node: A Keras node.
        values: `id` of a symbolic tensor to an array.
        operation: What is called; that of the node by default.
        arguments: What it is given, with symbolic tensors; as in the node by default.

    Returns:
        Arrays, one for each output.
    """

    def array(x):
        return ops.convert_to_tensor(values[id(x)]) if id(x) in values else x

    given = (node.arguments.args, node.arguments.kwargs) if arguments is None else arguments
    args, kwargs = tree.map_structure(array, given)
    operation = operation or node.operation
    if type(operation) in _RESHAPE and None in tree.flatten(operation.newshape):
        # Of a call with `ops.shape(x)[0]`, which is not known where the graph is made.
        sizes = zip(operation.newshape, shape_of(node.outputs[0]), strict=True)
        known = tuple(size if n is None else n for n, size in sizes)
        operation = type(operation)(known)
    if isinstance(operation, keras.Layer):
        kwargs.pop("training", None)
        if "training" in signature(operation.call).parameters:
            kwargs["training"] = False
    return [ops.convert_to_numpy(x) for x in tree.flatten(operation.call(*args, **kwargs))]
