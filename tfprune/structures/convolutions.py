"""Keras's convolutions, by what their kernels do with channels."""

from __future__ import annotations

import keras
from keras import layers

from tfprune.structures.overriding import reason_of

PLAIN = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
CONVOLUTIONS = (*PLAIN, *TRANSPOSED, *DEPTHWISE, *SEPARABLE)


def reads_windows(layer: keras.Layer) -> bool:
    """Whether a layer is a convolution that multiplies windows by its kernel and adds them up."""
    base = next((cls for cls in PLAIN if isinstance(layer, cls)), None)
    if base is None or reason_of(layer, base) is not None:
        return False
    return layer.groups == 1 and layer.data_format == "channels_last"


def is_grouped(layer: keras.Layer) -> bool:
    """Whether a layer is a convolution each of whose filters reads some of the channels only."""
    return isinstance(layer, PLAIN) and layer.groups > 1


def has_borders(layer: keras.Layer) -> bool:
    """Whether a convolution reads padding around its input, so that a constant is none there."""
    return layer.padding != "valid" and any(n > 1 for n in layer.kernel_size)
