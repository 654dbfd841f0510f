"""What a layer reads at each position; of a convolution that is the window of its input."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from tfprune.overlay.activations import Read
from tfprune.overlay.moments import rows_of
from tfprune.structures import Slices
from tfprune.structures.convolutions import reads_windows


def input_shape(share: Slices) -> tuple[int, ...]:
    """The shape of what the kernel of a consumer multiplies at one position.

    Args:
        share: The share of a structure in the kernel.
    """
    if reads_windows(share.layer):
        return tuple(share.variable.shape[:-1])
    return tuple(share.variable.shape[a] for a in share.connection_axes)


def rows_read(layer: keras.Layer, read: Read, width: int, most: int | None = None) -> np.ndarray:
    """What a layer reads in one call, position by position, without padding.

    Args:
        layer: The layer.
        read: What it reads.
        width: How many numbers there are at a position.
        most: Of a convolution, how many positions are drawn at most; `None` takes all.

    Returns:
        Array `(positions, width)`, float32.
    """
    if reads_windows(layer):
        return windows(layer, read.inputs, most)
    return rows_of(read, width)


def windows(layer: keras.Layer, inputs, most: int | None = None) -> np.ndarray:
    """The windows of the input of a convolution, in the order of its kernel.

    Args:
        layer: A convolution for which `reads_windows`.
        inputs: Its input, `(batch, ..., channels)`.
        most: How many positions are drawn at most; `None` takes all. Neighbours read much the same,
            so that some of them tell as much.

    Returns:
        Array `(positions, window * channels)`, float32. With the kernel reshaped to
        `(window * channels, filters)` the product is the output before bias and activation.
    """
    value = ops.convert_to_numpy(ops.cast(inputs, "float32"))
    axes = tuple(range(1, value.ndim - 1))
    spans = [(k - 1) * d + 1 for k, d in zip(layer.kernel_size, layer.dilation_rate, strict=True)]
    around = [
        _padding(layer.padding, n, span, stride)
        for n, span, stride in zip(value.shape[1:-1], spans, layer.strides, strict=True)
    ]
    value = np.pad(value, [(0, 0), *around, (0, 0)])
    seen = np.lib.stride_tricks.sliding_window_view(value, spans, axis=axes)
    # Axes: batch, positions, channels, window.
    steps = tuple(slice(None, None, stride) for stride in layer.strides)
    holes = tuple(slice(None, None, rate) for rate in layer.dilation_rate)
    seen = seen[(slice(None), *steps, slice(None), *holes)]
    seen = np.moveaxis(seen, len(axes) + 1, -1)
    places = seen.shape[: len(axes) + 1]
    chosen = np.arange(int(np.prod(places)))
    if most is not None and len(chosen) > most:
        chosen = np.sort(np.random.default_rng(0).choice(chosen, most, replace=False))
    return seen[np.unravel_index(chosen, places)].reshape(len(chosen), -1)


def _padding(padding: str, size: int, span: int, stride: int) -> tuple[int, int]:
    """How many zeros stand before and behind an axis."""
    if padding == "valid":
        return 0, 0
    if padding == "causal":
        return span - 1, 0
    total = max((-(-size // stride) - 1) * stride + span - size, 0)
    return total // 2, total - total // 2
