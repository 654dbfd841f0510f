"""Dense layers without some of their units, in the place of whole ones.

Where what attention computes depends on how many heads there are, or on which of them it is, only
the dense layers around it are cut. What is left of one that makes heads puts zeros where the others
were; what is left of one that reads them takes those that it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


def spread_out(x: Any, axis: int, positions: Sequence[int], length: int) -> Any:
    """Puts what lies along an axis at certain positions of a longer one, with zeros between.

    Args:
        x: Tensor with `len(positions)` elements along `axis`.
        axis: The axis, counted from the last, which is -1.
        positions: Where each element goes, in ascending order.
        length: How long the axis becomes.
    """
    places = np.full(length, len(positions))  # That of the zero behind all others.
    places[np.asarray(positions)] = np.arange(len(positions))
    zeros = [[0, 0]] * len(x.shape)
    zeros[axis] = [0, 1]
    return ops.take(ops.pad(x, zeros), places, axis=axis)


def picked(x: Any, axis: int, positions: Sequence[int]) -> Any:
    """Takes what lies at certain positions along an axis, counted from the last."""
    return ops.take(x, np.asarray(positions), axis=axis)


@keras.saving.register_keras_serializable("tfprune")
class AtPositions(keras.layers.Layer):
    """A dense layer without some of its units, or of its inputs, in the place of the whole one.

    Args:
        layer: The dense layer that is left.
        axis: The axis of its output, or of its input, along which positions were removed; counted
            from the last, which is -1.
        positions: The positions that are left, in ascending order.
        length: How many there were.
        of: `"outputs"`: zeros stand where units were. `"inputs"`: only these are read.
    """

    def __init__(self, layer, axis, positions, length, of, **kwargs):
        super().__init__(**kwargs)
        self.layer = layer
        self.axis, self.positions, self.length, self.of = axis, list(positions), length, of

    def build(self, input_shape):
        """Builds the layer for what it reads."""
        shape = list(input_shape)
        if self.of == "inputs":
            shape[self.axis] = len(self.positions)
        if not self.layer.built:
            self.layer.build(tuple(shape))

    def call(self, inputs):
        """What the whole layer would return if its other units, or inputs, were zero."""
        if self.of == "inputs":
            return self.layer(picked(inputs, self.axis, self.positions))
        return spread_out(self.layer(inputs), self.axis, self.positions, self.length)

    def compute_output_shape(self, input_shape):
        """The shape of the whole layer's output."""
        shape = list(input_shape)
        if self.of == "inputs":
            shape[self.axis] = len(self.positions)
        shape = list(self.layer.compute_output_shape(tuple(shape)))
        if self.of == "outputs":
            shape[self.axis] = self.length
        return tuple(shape)

    def get_config(self):
        """The configuration."""
        own = {
            "layer": keras.saving.serialize_keras_object(self.layer),
            "axis": self.axis,
            "positions": [int(n) for n in self.positions],
            "length": self.length,
            "of": self.of,
        }
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config):
        """Makes the layer with the dense layer in it."""
        config = {**config, "layer": keras.saving.deserialize_keras_object(config["layer"])}
        return cls(**config)
