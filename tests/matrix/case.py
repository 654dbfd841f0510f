"""A model of the matrix with inputs for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tfprune.keras_private.functional import inputs_struct

BATCH, POSITIONS, WORDS = 2, 6, 64


@dataclass
class Case:
    """A model with inputs for it.

    Args:
        model: A built model.
        inputs: What it is called on.
        sequence_length: The size of open axes when it is exported.
    """

    model: keras.Model
    inputs: Any
    sequence_length: int = POSITIONS


def ids(positions=POSITIONS, words=WORDS, seed=1):
    """Token ids, none of them 0."""
    return np.random.default_rng(seed).integers(1, words, (BATCH, positions)).astype("int32")


def padding(positions=POSITIONS):
    """A padding mask: the second example is shorter than the first."""
    mask = np.ones((BATCH, positions), "int32")
    mask[1, -2:] = 0
    return mask


def numbers(*shape, seed=0):
    """Numbers between 0 and 1."""
    return np.random.default_rng(seed).uniform(size=(BATCH, *shape)).astype("float32")


def made_up(model, words=WORDS, positions=POSITIONS):
    """Inputs for a Functional model, made up from the names, shapes and dtypes of its inputs."""

    def one(tensor):
        shape = [positions if size is None else size for size in tensor.shape[1:]]
        if "mask" in tensor.name:
            return np.ones((BATCH, *shape), tensor.dtype)
        if "int" in tensor.dtype:
            highest = 1 if "segment" in tensor.name else words
            draw = np.random.default_rng(0)
            return draw.integers(highest > 1, highest, (BATCH, *shape)).astype(tensor.dtype)
        return numbers(*shape)

    return keras.tree.map_structure(one, inputs_struct(model))
