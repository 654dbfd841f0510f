"""What a model takes: as a Functional model, and as arrays that it accepts."""

from __future__ import annotations

import keras
import numpy as np
from keras import tree

from tfprune.keras_private.graphs import inputs_struct, is_functional
from tfprune.structures.graph import arguments_from_build


def with_inputs(model: keras.Model) -> keras.Model:
    """A Functional model: the model itself, or one around a Sequential or subclassed model.

    The sizes of a subclassed model are those with which it was first called, but for the batch.

    Raises:
        ValueError: If what the model takes cannot be told.
    """
    if is_functional(model):
        return model
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.outputs, name=model.name)
    try:
        (given,), _ = arguments_from_build(model)
        inputs = tree.map_structure(lambda t: keras.Input(t.shape[1:], dtype=t.dtype), given)
        return keras.Model(inputs, model(inputs), name=model.name)
    except Exception as error:
        raise ValueError(
            f"What {type(model).__name__} {model.name!r} takes cannot be told: {error}. Wrap it: "
            "inputs = keras.Input(...); model = keras.Model(inputs, your_model(inputs))."
        ) from error


def at_inference(model: keras.Model) -> keras.Model:
    """A Functional model that computes what another one does with `training=False`, always.

    Without it layers such as `RandomFlip`, which train unless they are told not to, would change
    their input in the exported file.
    """
    inputs = inputs_struct(model)
    return keras.Model(inputs, model(inputs, training=False), name=model.name)


def example_inputs(model, batch_size: int = 1, length: int = 16) -> list[np.ndarray]:
    """Inputs that a model accepts: ones for integers, noise for the rest."""
    draw = np.random.default_rng(0)
    arrays = []
    for spec in model.inputs:
        shape = [batch_size, *[length if n is None else n for n in spec.shape[1:]]]
        values = np.ones(shape) if is_integer(spec) else draw.normal(size=shape)
        arrays.append(values.astype(spec.dtype))
    return arrays


def is_integer(spec) -> bool:
    """Whether an input takes integers or booleans."""
    return "int" in spec.dtype or spec.dtype == "bool"
