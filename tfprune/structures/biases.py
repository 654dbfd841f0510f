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
    describe = describe_of(layer)
    if describe is not None:
        return _left_when_empty(layer, describe)
    if isinstance(layer, (keras.layers.Dense, keras.layers.EinsumDense)):
        bias = layer.bias
        linear = layer.activation in (None, keras.activations.linear)
        return bias if linear and bias is not None and len(bias.shape) == 1 else None
    if type(layer) is keras.layers.LayerNormalization:
        return layer.beta if layer.center and len(layer.beta.shape) == 1 else None
    return None


def _left_when_empty(layer, describe):
    """What a layer of a registered kind returns when all its groups are gone: what it adds last."""
    try:
        ends = describe(layer, layer.name).remainders()
    except ValueError:  # It cannot be pruned.
        return None
    mine = [end for end in ends if end.layer is layer and end.activation is None]
    bias = mine[0].bias if len(mine) == 1 else None
    return bias if bias is not None and len(bias.shape) == 1 else None
