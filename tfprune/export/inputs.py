"""What a model takes: as a Functional model, and as arrays that it accepts."""

from __future__ import annotations

import keras
import numpy as np
from keras import tree

from tfprune.keras_private.graphs import inputs_struct, is_functional, outputs_struct
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
    """Inputs that a model accepts: ones for integers, noise for the rest.

    Args:
        model: A Functional model.
        batch_size: The size of the first axis where the model leaves it open.
        length: That of the others.
    """
    draw = np.random.default_rng(0)
    arrays = []
    for spec in model.inputs:
        shape = [
            n if n is not None else length if axis else batch_size
            for axis, n in enumerate(spec.shape)
        ]
        if spec.dtype == "string":
            arrays.append(np.full(shape, "text", object))
            continue
        values = np.ones(shape) if is_integer(spec) else draw.normal(size=shape)
        arrays.append(values.astype(spec.dtype))
    return arrays


def is_integer(spec) -> bool:
    """Whether an input takes integers or booleans."""
    return "int" in spec.dtype or spec.dtype == "bool"


def output_names(model: keras.Model) -> list[str]:
    """The names that a Functional model's outputs have in files, in the order of `tree.flatten`.

    Keras calls them after their keys in a dictionary, and `output_0`, `output_1`, … otherwise.

    Raises:
        ValueError: If there are outputs inside others, for which files have no place.
    """
    outputs = outputs_struct(model)
    if isinstance(outputs, dict):
        parts, names = outputs, list(tree.flatten({key: key for key in outputs}))
    else:
        parts = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        names = [f"output_{number}" for number in range(len(parts))]
    if any(map(tree.is_nested, parts.values() if isinstance(parts, dict) else parts)):
        raise ValueError(
            "`model` must have one output, a list or a dictionary of them; files have no place for "
            f"lists inside others. Received: {tree.map_structure(lambda t: t.name, outputs)}"
        )
    return names
