"""Gives a built model a further layer to hold variables, and takes it away again.

The model tracks such a part, so that its variables are trained; on JAX a variable that is not
tracked would be compiled in as a constant. The part is in no configuration and in no file, but for
the backups from which a fit is resumed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from tfprune.keras_private.layers import first_layer, inner_layers, track, unlocked, untrack

_MARK, _PARTS, _OWNER = "_tfprune_part", "_tfprune_parts", "_tfprune_fit"


class _Parts:
    """The parts of one model. Keras does not look into objects of classes that it does not know."""

    def __init__(self):
        self.by_name: dict[str, keras.Layer] = {}


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
    """Lets a model that is built already track a layer.

    It is no attribute, so files that are saved do not hold it, see `parts_in_files`.
    """
    vars(part)[_MARK] = True
    holder = _holder(model)
    with unlocked(holder):
        track(holder, part)
    vars(holder).setdefault(_PARTS, _Parts()).by_name[name] = part


def remove_part(model: keras.Model, name: str) -> None:
    """Undoes `add_part`."""
    holder = _holder(model)
    with unlocked(holder):
        untrack(holder, vars(holder)[_PARTS].by_name.pop(name))


def parts_of(model: keras.Model) -> list[tuple[str, keras.Layer]]:
    """The names and the layers that `add_part` has given a model, in that order."""
    return list(vars(_holder(model)).get(_PARTS, _Parts()).by_name.items())


@contextmanager
def parts_in_files(model: keras.Model) -> Iterator[None]:
    """Lets files of weights that are saved or loaded inside a `with` block hold the parts too."""
    attributes, shown = vars(model), dict(parts_of(model))
    attributes.update(shown)
    try:
        yield
    finally:
        for name in shown:
            attributes.pop(name, None)


def set_owner(model: keras.Model, owner: Any) -> None:
    """Says who removes what a fit attaches to a model; `None` if nothing is attached."""
    if owner is None:
        vars(model).pop(_OWNER, None)
    else:
        vars(model)[_OWNER] = owner


def owner_of(model: keras.Model) -> Any:
    """Who removes what a fit has attached to a model, or `None`."""
    return vars(model).get(_OWNER)


def end_interrupted_fit(model: keras.Model) -> None:
    """Removes what a fit that has been interrupted left attached; one that goes on keeps it."""
    owner = owner_of(model)
    if owner is not None:
        owner.end_if_fit_is_over()


def own_children(layer: keras.Layer) -> list[keras.Layer]:
    """The layers one level inside a layer, without the parts that were added."""
    return [x for x in inner_layers(layer, recursive=False) if not _is_part(x)]


def _is_part(value) -> bool:
    return isinstance(value, keras.Layer) and _MARK in vars(value)


def _holder(model):
    """What tracks a part. A Sequential model has no variables but those of its layers."""
    return first_layer(model) if isinstance(model, keras.Sequential) and model.built else model
