"""Inputs that a model accepts, made of random numbers."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.keras_private.functional import inputs_struct
from tfprune.structures.graph import Untraceable, arguments_from_build

# A model may need many positions, or have few; and it may know few numbers.
TRIES = tuple((length, varied) for varied in (True, False) for length in (4, 16, 64, 1))

_BATCH = 2


def made_up_inputs(model: keras.Model, length: int, varied: bool = True) -> Any:
    """What a model may be called on: noise for numbers, small integers for the rest.

    Args:
        model: A built model.
        length: The size of axes that it leaves open, but for the batch, which has two examples.
        varied: Whether token ids differ; otherwise all integers are one.

    Returns:
        Arrays in the structure of the model's inputs.

    Raises:
        Untraceable: If what the model takes cannot be told, or is text.
    """
    struct = inputs_struct(model)
    if struct is None and isinstance(model, keras.Sequential):
        struct = model.inputs[0]
    if struct is None:
        args, kwargs = arguments_from_build(model)
        if kwargs or len(args) != 1:
            raise Untraceable("it has several arguments")
        struct = args[0]
    draw = np.random.default_rng(0)
    return tree.map_structure(lambda x: made_up(x, draw, _BATCH, length, varied), struct)


def made_up(spec, draw, batch_size: int, length: int, varied: bool = False) -> np.ndarray:
    """An array that fits an input.

    Args:
        spec: A tensor with `shape`, `dtype` and `name`.
        draw: NumPy's generator.
        batch_size: The size of the first axis where it is open.
        length: That of the others.
        varied: Whether there is padding, and integers differ that are no masks or types; otherwise
            all are one.

    Raises:
        Untraceable: If it is text.
    """
    shape = [
        n if n is not None else length if axis else batch_size for axis, n in enumerate(spec.shape)
    ]
    if "string" in str(spec.dtype):
        raise Untraceable("it takes text")
    if "int" not in spec.dtype and spec.dtype != "bool":
        return draw.normal(size=shape).astype(spec.dtype)
    values = np.ones(shape, spec.dtype)
    is_mask = spec.dtype == "bool" or "mask" in spec.name
    is_id = not is_mask and not re.search("segment|type|position", spec.name)
    if varied and is_id:
        values = draw.integers(1, 4, size=shape).astype(spec.dtype)
    if varied and (is_id or is_mask) and len(shape) > 1 and shape[-1] > 2:
        values[1:, ..., -1] = 0  # Padding, as a rule: what makes masks of it shows.
    return values
