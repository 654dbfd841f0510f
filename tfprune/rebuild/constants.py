"""Constants that stand where a layer was, pushed through the graph as far as they go."""

from __future__ import annotations

from dataclasses import dataclass, replace
from inspect import signature
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from tfprune.structures.elementwise import function_of, is_add, is_elementwise, is_identity


@dataclass(frozen=True)
class Constant:
    """The same vector at every position, instead of a tensor.

    Args:
        vector: Array `(width,)`.
        like: A symbolic tensor with the same positions.
        name: The name of the layer that became constant.
        masked: Whether the tensor carried a Keras mask.
        policy: The dtype policy of that layer; the global one by default.
    """

    vector: np.ndarray
    like: Any
    name: str
    masked: bool = False
    policy: Any = None


@dataclass(frozen=True)
class Unread:
    """The output of a layer that nothing reads any more; `like` has the same positions."""

    like: Any


def first_parameter(layer: keras.Layer) -> str:
    """The name of the first argument of `call`, whose positions are those of the output."""
    return next(iter(signature(layer.call).parameters))


def first_given(node) -> Any:
    """The symbolic tensor that a call gives as the first argument, by its place or by its name."""
    args, kwargs = node.arguments.args, node.arguments.kwargs
    first = args[0] if args else kwargs.get(first_parameter(node.operation))
    return next(iter(tree.flatten(first)), None) if first is not None else node.input_tensors[0]


def through(operation, constant: Constant, masked: bool) -> Constant | None:
    """The constant behind an element-wise operation with one input, or `None` for others.

    Args:
        operation: The operation.
        constant: What it is given.
        masked: Whether its output carries a Keras mask.
    """
    if not is_elementwise(operation) or is_add(operation):
        return None
    if is_identity(operation):
        return constant
    function = function_of(operation)
    if function is None:
        return None
    value = ops.convert_to_numpy(function(ops.cast(constant.vector[None], "float32")))[0]
    return replace(constant, vector=value, masked=masked)


def as_layer(
    constant: Constant,
    made: dict[str, list[keras.layers.Dense]],
    layers_only: bool = False,
    masked: bool = False,
):
    """A tensor that holds the constant at every position, made by a layer with a trainable bias.

    Args:
        constant: The constant.
        made: The layers made so far, by the name of the layer that became constant; a new one is
            added. What was called in several places becomes one layer again, if it can.
        layers_only: Whether nothing but layers may be called, as in a Sequential model.
        masked: Whether the tensor with the same positions carries a Keras mask.
    """
    like, width = constant.like, len(constant.vector)
    if not layers_only and not (constant.masked and masked):
        # One unit is enough to say where the positions are; its kernel is zero. A mask would be
        # lost on the way, so with one the whole tensor is passed.
        like = like[..., :1]
    others = made.setdefault(constant.name, [])
    for layer in others:
        if layer.kernel.shape[0] == like.shape[-1] and np.array_equal(layer.bias, constant.vector):
            return layer(like)
    suffix = f"_constant_{len(others)}" if others else ""
    layer = keras.layers.Dense(
        width,
        kernel_initializer="zeros",
        name=f"{constant.name}{suffix}",
        dtype=constant.policy,
    )
    output = layer(like)
    layer.bias.assign(constant.vector)
    others.append(layer)
    return output
