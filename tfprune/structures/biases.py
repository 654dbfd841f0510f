"""The bias that a layer adds last, into which a constant can be folded."""

from __future__ import annotations

import keras

from tfprune.structures.registry import describe_of


def output_bias(layer) -> keras.Variable | None:
    """The variable that a built layer adds to its output, one value for each output unit.

    Args:
        layer: A built layer.

    Returns:
        The variable, or `None` if the layer adds none or does something to it afterwards.
    """
    if describe_of(layer):
        return output_bias(getattr(layer, "_output_dense", None))
    if isinstance(layer, (keras.layers.Dense, keras.layers.EinsumDense)):
        bias = layer.bias
        linear = layer.activation in (None, keras.activations.linear)
        return bias if linear and bias is not None and len(bias.shape) == 1 else None
    if type(layer) is keras.layers.LayerNormalization:
        return layer.beta if layer.center and len(layer.beta.shape) == 1 else None
    return None
