"""What a model takes: as a Functional model, and as arrays that it accepts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import contextmanager
from inspect import signature as signature_of
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.keras_private.functional import (
    input_like,
    inputs_struct,
    is_functional,
    outputs_struct,
)
from tfprune.keras_private.layers import layer_and_inner_layers
from tfprune.structures.graph import arguments_from_build
from tfprune.structures.made_up import made_up


def with_inputs(model: keras.Model, like: Any = None) -> keras.Model:
    """A Functional model: the model itself, or one around a Sequential or subclassed model.

    The sizes of a subclassed model are those with which it was first called, but for the batch.
    Its inputs are called as the argument of its `call`, see `_named`.

    Args:
        model: A built model.
        like: Arrays in the structure of its inputs, or a list of batches of its only input. Where a
            subclassed model has embeddings, they tell which inputs are integers: Keras keeps the
            shapes with which it was called, but not the types.

    Raises:
        ValueError: If what the model takes cannot be told.
    """
    if is_functional(model):
        return model
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.outputs, name=model.name)
    try:
        (given,), _ = arguments_from_build(model)
        types = iter(_types(model, like, [t.dtype for t in tree.flatten(given)]))
        inputs = tree.map_structure(lambda t: keras.Input(t.shape[1:], dtype=next(types)), given)
        inputs = _named(inputs, model, next(iter(signature_of(model.call).parameters)))
        return keras.Model(inputs, model(inputs), name=model.name)
    except Exception as error:
        raise ValueError(
            f"What {type(model).__name__} {model.name!r} takes cannot be told: {error}. Wrap it: "
            "inputs = keras.Input(...); model = keras.Model(inputs, your_model(inputs))."
        ) from error


def _types(model, like, known):
    """The types of inputs: those of integers that arrays have, otherwise those that are known."""
    layers = layer_and_inner_layers(model)
    if not any(isinstance(layer, keras.layers.Embedding) for layer in layers):
        return known  # Pictures of integers are cast.
    arrays = tree.flatten(like[:1] if isinstance(like, list) and len(known) == 1 else like)
    if len(arrays) != len(known) or not all(isinstance(a, np.ndarray) for a in arrays):
        return known
    return [
        str(array.dtype) if array.dtype in (np.int32, np.int64) else dtype
        for array, dtype in zip(arrays, known, strict=True)
    ]


# Keras's own name of a symbolic tensor.
_NUMBERED = re.compile(r"keras_tensor(_\d+)?")


def _named(inputs, model, name="inputs"):
    """Inputs of which each has a name, by which files are called.

    Keras numbers those that nobody has named, and in the next process otherwise. They are called
    `name`, followed by a number or a key where there are several, but never as the model itself,
    which is a layer beside them.
    """
    all_of_them = tree.flatten_with_path(inputs)
    taken, named = {model.name, *(t.name for _, t in all_of_them)}, []
    for path, tensor in all_of_them:
        if _NUMBERED.fullmatch(tensor.name):
            own = "_".join([name, *map(str, path)]) if len(all_of_them) > 1 else name
            while own in taken:
                own += "_"
            taken.add(own)
            tensor = input_like(tensor, name=own)
        named.append(tensor)
    return tree.pack_sequence_as(inputs, named)


def at_inference(
    model: keras.Model, batch_size: int | None = None, sequence_length: int | None = None
) -> keras.Model:
    """A Functional model that computes what another one does with `training=False`, always.

    Without it layers such as `RandomFlip`, which train unless they are told not to, would change
    their input in the exported file.

    Args:
        model: A Functional model.
        batch_size: The size of the first axis of its inputs, where it is open; `None` leaves it so.
        sequence_length: That of their other open axes.

    Raises:
        ValueError: If the model cannot read inputs of these sizes.
    """
    try:
        return of_shapes(
            model, [_sizes(t.shape, batch_size, sequence_length) for t in model.inputs]
        )
    except Exception as error:  # Whatever the layers raise.
        if batch_size is None and sequence_length is None:
            raise
        raise ValueError(
            "`batch_size` and `sequence_length` must be sizes that the model can read; one that "
            "has positions for 64 tokens reads no more. Received: "
            f"batch_size={batch_size}, sequence_length={sequence_length}. Keras says: {error}"
        ) from error


def of_shapes(model: keras.Model, shapes: Sequence[tuple[int | None, ...]]) -> keras.Model:
    """What `at_inference` gives, with any shapes of the inputs.

    Args:
        model: A Functional model.
        shapes: Those of its inputs, in their order.
    """
    sizes = iter(shapes)
    inputs = tree.map_structure(
        lambda t: input_like(t, next(sizes)), _named(inputs_struct(model), model)
    )
    name = model.name
    with _unlike(model, {t.name for t in tree.flatten(inputs)}):
        return keras.Model(inputs, model(inputs, training=False), name=name)


@contextmanager
def _unlike(model, names):
    """For a while another name for a model that is called as one of its inputs.

    It is a layer beside them, and Keras wants names of layers that differ.
    """
    name = model.name
    while model.name in names:
        model.name += "_"
    try:
        yield
    finally:
        model.name = name


def _sizes(shape, batch_size, sequence_length):
    given = [batch_size, *[sequence_length] * (len(shape) - 1)]
    return tuple(n if n is not None else size for n, size in zip(shape, given, strict=True))


def open_axes(model: keras.Model) -> tuple[bool, bool]:
    """Whether some input of a Functional model leaves its first axis open, and any other one."""
    shapes = [t.shape for t in model.inputs]
    return (
        any(len(shape) and shape[0] is None for shape in shapes),
        any(n is None for shape in shapes for n in shape[1:]),
    )


def signature(model: keras.Model) -> list:
    """The `input_signature` with which Keras exports a model with the sizes that its inputs have.

    By itself it leaves the size of a batch open, whatever the model says.
    """
    import tensorflow as tf

    return [
        tree.map_structure(
            lambda t: tf.TensorSpec(t.shape, t.dtype, name=t.name), inputs_struct(model)
        )
    ]


def example_inputs(model: keras.Model, batch_size: int = 1, length: int = 16) -> list[np.ndarray]:
    """Inputs that a model accepts: ones for integers, noise for the rest.

    Args:
        model: A Functional model.
        batch_size: The size of the first axis where the model leaves it open.
        length: That of the others.
    """
    draw = np.random.default_rng(0)
    arrays = []
    for spec in model.inputs:
        if spec.dtype == "string":
            shape = [n or (length if axis else batch_size) for axis, n in enumerate(spec.shape)]
            arrays.append(np.full(shape, "text", object))
        else:
            arrays.append(made_up(spec, draw, batch_size, length))
    return arrays


def is_integer(spec: Any) -> bool:
    """Whether an input takes integers or booleans."""
    return "int" in spec.dtype or spec.dtype == "bool"


def input_names(model: keras.Model) -> list[str]:
    """The names by which a model takes a dictionary, in the order of its inputs.

    As in `predict`: the keys of its inputs, or the names of the tensors where it has none.

    Args:
        model: A Functional or Sequential model.
    """
    struct = inputs_struct(model)
    by_key = isinstance(struct, dict) and not any(map(tree.is_nested, struct.values()))
    return tree.flatten({k: k for k in struct}) if by_key else [t.name for t in model.inputs]


def output_names(model: keras.Model) -> list[str]:
    """The names that a Functional model's outputs have in files, in the order of `tree.flatten`.

    Keras calls them after their keys in a dictionary, and `output_0`, `output_1`, … otherwise.

    Raises:
        ValueError: If there are outputs inside others, for which files have no place.
    """
    outputs = outputs_struct(model)
    if isinstance(outputs, dict):
        parts = list(outputs.values())
        names = list(tree.flatten({key: key for key in outputs}))
    else:
        parts = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        names = [f"output_{number}" for number in range(len(parts))]
    if any(map(tree.is_nested, parts)):
        raise ValueError(
            "`model` must have one output, a list or a dictionary of them; files have no place for "
            f"lists inside others. Received: {tree.map_structure(lambda t: t.name, outputs)}"
        )
    return names


def refuse_state(model: keras.Model) -> None:
    """Refuses a model whose outputs depend on the calls before: files start anew or go on.

    Raises:
        ValueError: If a layer keeps a state between calls.
    """
    for layer in layer_and_inner_layers(model):
        if getattr(layer, "stateful", False) is True:
            raise ValueError(
                "`model` must keep nothing from one call to the next to be written to a file. "
                f"Received: the layer {layer.name!r} is stateful. Give its state as an input and "
                "an output."
            )
