"""Gives layers variables of other shapes, and the numbers that go with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras

from tfprune.keras_private.layers import layer_and_inner_layers
from tfprune.structures.dense import letters

_MADE_WITH = "_made_with"  # The numbers that a layer had before its first cut.


def numbers_with(layer: keras.Layer, shapes: Mapping[str, Iterable[int]]) -> dict[str, Any]:
    """The numbers of a dense layer or an embedding whose variables have certain shapes.

    Args:
        layer: A built layer.
        shapes: Attribute to shape, of those that differ from the layer's own.

    Returns:
        Attribute to number, or tuple of numbers; empty for layers of other classes.
    """
    if isinstance(layer, keras.layers.EinsumDense) and "kernel" in shapes:
        _, kernel, outputs = letters(layer)
        size = dict(zip(kernel, shapes["kernel"], strict=True))
        sizes = layer.partial_output_shape
        behind = outputs[len(outputs) - len(sizes) :]
        pairs = zip(behind, sizes, strict=True)
        return {"partial_output_shape": tuple(n and size.get(a, n) for a, n in pairs)}
    if isinstance(layer, keras.layers.Dense) and "kernel" in shapes:
        return {"units": tuple(shapes["kernel"])[1]}
    if isinstance(layer, keras.layers.Embedding) and "embeddings" in shapes:
        return {"output_dim": tuple(shapes["embeddings"])[1]}
    return {}


def config_with(layer: keras.Layer, shapes: Mapping[str, Iterable[int]]) -> dict[str, Any]:
    """The entries of the configuration of a dense layer whose variables have certain shapes.

    Args:
        layer: As in `numbers_with`.
        shapes: As in `numbers_with`.
    """
    names = {"partial_output_shape": "output_shape"}
    return {names.get(name, name): x for name, x in numbers_with(layer, shapes).items()}


def set_numbers(layer: keras.Layer, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Sets numbers that a layer keeps, and the width of the input that a dense layer checks.

    Args:
        layer: A built layer.
        numbers: Attribute to number, or to several.

    Returns:
        What `vars(layer)` takes to undo it.
    """
    before = {name: vars(layer)[name] for name in numbers}
    for name, value in numbers.items():
        several = isinstance(value, (list, tuple))
        vars(layer)[name] = type(before[name])(value) if several else value
    if isinstance(layer, keras.layers.Dense):
        before["_input_spec"] = layer._input_spec
        axes = {-1: layer.kernel.shape[0]}
        layer.input_spec = keras.layers.InputSpec(min_ndim=2, axes=axes)
    return before


def remember_numbers(layer: keras.Layer, before: Mapping[str, Any]) -> None:
    """Notes with which numbers a layer was made, unless an earlier cut has done so."""
    known = vars(layer).get(_MADE_WITH, {})
    vars(layer)[_MADE_WITH] = {**before, **known}


@contextmanager
def as_made(layer: keras.Layer) -> Iterator[None]:
    """Lets a layer and those inside have the numbers with which they were made meanwhile.

    So their `get_config()` says how the layer is made that is then cut.
    """
    undo = []
    try:
        for inner in layer_and_inner_layers(layer):
            made_with = vars(inner).get(_MADE_WITH, {})
            undo.append((inner, {name: vars(inner)[name] for name in made_with}))
            vars(inner).update(made_with)
        yield
    finally:
        for inner, numbers in undo:
            vars(inner).update(numbers)
