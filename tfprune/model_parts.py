"""Gives a built model a further layer to hold variables, and takes it away again.

The model tracks such a part: its variables are trained and `BackupAndRestore` keeps them. On JAX a
variable that is not tracked would be compiled in as a constant. The part is in no configuration, so
a model saved with it loads without it.
"""

from __future__ import annotations

import keras

from tfprune.keras_private.layers import first_layer, inner_layers, unlocked, untrack

_MARK = "_tfprune_part"


def add_untrained(layer: keras.Layer, name: str, shape=(), value=0.0, dtype=None) -> keras.Variable:
    """Gives a layer a variable in full precision that the optimizer leaves alone.

    Args:
        layer: The layer.
        name: Name of the variable.
        shape: Its shape.
        value: Its first value, a number or an array of that shape.
        dtype: Its type; that of the layer's variables by default.

    Returns:
        The variable, which the layer tracks.
    """
    return layer.add_weight(
        name=name,
        shape=shape,
        dtype=dtype,
        initializer=keras.initializers.Constant(value),
        trainable=False,
        autocast=False,  # Half precision would round counts and thresholds.
    )


def add_part(model: keras.Model, name: str, part: keras.Layer) -> None:
    """Makes a layer an attribute of a model that is built already."""
    vars(part)[_MARK] = True
    holder = _holder(model)
    with unlocked(holder):
        setattr(holder, name, part)
    if holder is not model:
        vars(model)[name] = part


def remove_part(model: keras.Model, name: str) -> None:
    """Undoes `add_part`."""
    part = getattr(model, name)
    holder = _holder(model)
    with unlocked(holder):
        delattr(holder, name)
        untrack(holder, part)
    vars(model).pop(name, None)


def parts_of(model: keras.Model) -> list[tuple[str, keras.Layer]]:
    """The names and the layers that `add_part` has given a model, in that order."""
    return [(name, value) for name, value in vars(_holder(model)).items() if _is_part(value)]


def own_children(layer: keras.Layer) -> list[keras.Layer]:
    """The layers one level inside a layer, without the parts that were added."""
    return [x for x in inner_layers(layer, recursive=False) if not _is_part(x)]


def _is_part(value) -> bool:
    return isinstance(value, keras.Layer) and _MARK in vars(value)


def _holder(model):
    """What tracks a part. A Sequential model has no variables but those of its layers."""
    return first_layer(model) if isinstance(model, keras.Sequential) and model.built else model
