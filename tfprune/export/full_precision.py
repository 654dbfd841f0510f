"""Models of mixed precision in files that have no operations of half precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import keras

from tfprune.keras_private.layers import layer_and_inner_layers, with_policy


def computes_in_half(model: keras.Model) -> bool:
    """Whether some layer of a model computes in half precision."""
    return any("16" in layer.compute_dtype for layer in layer_and_inner_layers(model))


@contextmanager
def in_full_precision(model: keras.Model) -> Iterator[None]:
    """Inside a `with` block layers that have weights of float32 compute in it, too.

    A policy such as `"mixed_float16"` is one of training on hardware that is fast in half
    precision. LiteRT multiplies matrices in float32 alone. Layers that Keras has quantized stay as
    they are: their policy says how their kernels are read.

    Args:
        model: A built model; a Functional model has to be called again inside to compute so.
    """
    with ExitStack() as undo:
        for layer in layer_and_inner_layers(model):
            is_mixed = "16" in layer.compute_dtype and layer.variable_dtype == "float32"
            if is_mixed and layer.quantization_mode is None:
                undo.enter_context(with_policy(layer, keras.DTypePolicy("float32")))
        yield
