"""The units of one dense layer, whoever reads them."""

from __future__ import annotations

import keras

from tfprune.structures import Slices, Structure
from tfprune.structures.dense import cannot_consume


class DenseUnits(Structure):
    """The output units of a `Dense` or `EinsumDense` layer.

    A group is a column of the kernel and its bias. What reads it lies outside of the layer, so that
    a model is not cut by this structure, but by that of the pair which the layer belongs to.

    Args:
        layer: A built layer.

    Raises:
        ValueError: If the kernel is no matrix from the last axis to the last.
    """

    kind = "units"

    def __init__(self, layer: keras.Layer):
        reason = cannot_consume(layer)
        if reason is None and layer.bias is not None and len(layer.bias.shape) != 1:
            reason = "its bias has more than one axis"
        if reason is not None:
            raise ValueError(
                f"`layer` must be a dense layer whose units can be told apart. Received: "
                f"{layer.name!r}, but {reason}."
            )
        slices = [Slices(layer, "kernel", 1, "producer")]
        if layer.bias is not None:
            slices.append(Slices(layer, "bias", 0, "producer"))
        super().__init__(layer.name, int(layer.kernel.shape[1]), tuple(slices))
