"""The layers of the students that Keras does not have."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("tfprune")
class SSRU(keras.Layer):
    """Simpler simple recurrent unit: a cheap stand-in for decoder self-attention.

    `f_t = σ(W_f x_t + b_f)`, `c_t = f_t ⊙ c_{t-1} + (1 - f_t) ⊙ W x_t`, `o_t = ReLU(c_t)`.

    In training all positions are computed at once, by doubling: after step i each position has
    seen the 2^i positions before it.

    Args:
        max_length: The longest sequence in training.

    Source: Kim et al., "From Research to Production and Back: Ludicrously Fast Neural Machine
    Translation", WNGT 2019; used by Behnke & Heafield, WMT 2021, section 4.
    """

    def __init__(self, max_length: int = 256, **kwargs: Any):
        super().__init__(**kwargs)
        self.max_length = max_length

    def build(self, input_shape: Any) -> None:
        """Makes the two projections."""
        width = input_shape[-1]
        self.kernel = self.add_weight(
            name="kernel", shape=(width, width), initializer="glorot_uniform"
        )
        self.forget_kernel = self.add_weight(
            name="forget_kernel", shape=(width, width), initializer="glorot_uniform"
        )
        self.forget_bias = self.add_weight(name="forget_bias", shape=(width,), initializer="zeros")

    def gates(self, x: Any) -> tuple[Any, Any]:
        """The forget gate and the candidate, each of the shape of `x`."""
        forget = ops.sigmoid(ops.matmul(x, self.forget_kernel) + self.forget_bias)
        return forget, (1 - forget) * ops.matmul(x, self.kernel)

    def call(self, x: Any) -> Any:
        """`(batch, length, width)` to the same shape."""
        forget, cell = self.gates(x)
        length = ops.shape(x)[1]
        for power in range(max(1, math.ceil(math.log2(self.max_length)))):
            distance = 2**power
            cell = cell + forget * _later(cell, distance, length)
            forget = forget * _later(forget, distance, length)
        return ops.relu(cell)

    def step(self, x: Any, cell: Any) -> tuple[Any, Any]:
        """One position: `x` `(batch, width)` and the cell before it; output and new cell."""
        forget, update = self.gates(x)
        cell = forget * cell + update
        return ops.relu(cell), cell

    def compute_output_spec(self, x: Any) -> Any:
        """The shape of the input."""
        return keras.KerasTensor(x.shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """The configuration."""
        return {**super().get_config(), "max_length": self.max_length}


def _later(x, distance, length):
    """Moves a sequence to the right and fills with zeros."""
    return ops.pad(x, [[0, 0], [distance, 0], [0, 0]])[:, :length]


@keras.saving.register_keras_serializable("tfprune")
class SinusoidalPositions(keras.Layer):
    """Scales embeddings by √width and adds sinusoids of the position.

    Source: Vaswani et al., "Attention Is All You Need", 2017, section 3.5.
    """

    def call(self, x: Any) -> Any:
        """`(batch, length, width)` to the same shape."""
        positions = ops.arange(ops.shape(x)[1], dtype="float32")
        return self.scaled(x) + ops.cast(sinusoids(positions, x.shape[-1]), x.dtype)[None]

    def scaled(self, x: Any) -> Any:
        """Embeddings, multiplied."""
        return x * math.sqrt(x.shape[-1])

    def compute_output_spec(self, x: Any) -> Any:
        """The shape of the input."""
        return keras.KerasTensor(x.shape, dtype=self.compute_dtype)


def sinusoids(positions: Any, width: int, library: Any = ops) -> Any:
    """Sines and cosines of positions.

    Args:
        positions: Array `(length,)`, float32.
        width: How many numbers there are for each position.
        library: What computes them, `keras.ops` or `numpy`.

    Returns:
        Array `(length, width)`, float32: first sines, then cosines.
    """
    rates = np.exp(np.arange(0, width, 2) * (-math.log(10_000) / width)).astype("float32")
    angles = positions[:, None] * rates[None]
    found = library.concatenate([library.sin(angles), library.cos(angles)], axis=-1)
    return found[:, :width]
