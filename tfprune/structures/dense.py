"""Dense layers: whose units are told apart, and which read them."""

from __future__ import annotations

import keras

from tfprune.structures.elementwise import is_elementwise_function
from tfprune.structures.overriding import reason_of


def is_dense(operation) -> bool:
    """Whether an operation is a Keras dense layer."""
    return isinstance(operation, (keras.layers.Dense, keras.layers.EinsumDense))


def cannot_produce(layer) -> str | None:
    """Why the units of a dense layer cannot be told apart, if so."""
    if not is_elementwise_function(layer.activation):
        return f"its activation {function_name(layer.activation)} mixes units"
    if layer.bias is not None and len(layer.bias.shape) != 1:
        return "its bias has more than one axis"
    return cannot_consume(layer)


def cannot_consume(layer) -> str | None:
    """Why a dense layer's kernel is no plain matrix from the last axis to the last, if so."""
    if getattr(layer, "quantization_mode", None):
        return "it is quantized"
    if getattr(layer, "lora_enabled", False):
        return "it has LoRA weights; merge them first"
    is_einsum = isinstance(layer, keras.layers.EinsumDense)
    reason = reason_of(layer, keras.layers.EinsumDense if is_einsum else keras.layers.Dense)
    if reason is not None or not is_einsum:
        return reason
    if layer.bias is not None and layer.bias.shape[-1] != layer.kernel.shape[-1]:
        return "its bias has no axis for its units"
    inputs, kernel, outputs = letters(layer)
    plain = (
        len(kernel) == 2
        and inputs[-1] == kernel[0]
        and outputs[-1] == kernel[1]
        and inputs[:-1] == outputs[:-1]
        and kernel[1] not in inputs
    )
    return None if plain else f"its equation {layer.equation} is no product over the last axis"


def function_name(function) -> str:
    """What a function is called, for messages."""
    return getattr(function, "__name__", type(function).__name__)


def describe(operation) -> str:
    """An operation in words: its class, and the name of a layer; others have only a number."""
    kind = type(operation).__name__
    return f"{operation.name} ({kind})" if isinstance(operation, keras.Layer) else kind


def letters(layer: keras.layers.EinsumDense) -> tuple[str, str, str]:
    """The axes of the input, the kernel and the output of an `EinsumDense`, by letter."""
    inputs, rest = layer.equation.replace(" ", "").split(",")
    kernel, outputs = rest.split("->")
    return inputs, kernel, outputs
