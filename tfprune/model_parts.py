"""Gives a built model a further layer to hold variables, and takes it away again.

The model tracks such a part: its variables are trained and `BackupAndRestore` keeps them. On JAX a
variable that is not tracked would be baked into the compiled step. The part is in no configuration,
so a model saved meanwhile loads without it.
"""

from __future__ import annotations

from contextlib import nullcontext

import keras

from tfprune.keras_private import first_layer, inner_layers, unlocked, untrack

_MARK = "_tfprune_part"


def variables_scope(model: keras.Model):
    """Where variables must be made that belong to a model: on all its devices."""
    strategy = getattr(model, "distribute_strategy", None)
    return nullcontext() if strategy is None else strategy.scope()


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


def _holder(model):
    """What tracks a part. A Sequential model has no variables but those of its layers."""
    return first_layer(model) if isinstance(model, keras.Sequential) else model


def own_children(layer: keras.Layer) -> list[keras.Layer]:
    """The layers one level inside a layer, without the parts that were added."""
    return [x for x in inner_layers(layer, recursive=False) if _MARK not in vars(x)]


def forget_compiled(model: keras.Model) -> None:
    """Lets Keras compile `fit`, `evaluate` and `predict` anew: what the layers compute has changed.

    Otherwise a model that was evaluated before would go on giving what it gave then.
    """
    for name in ("train_function", "test_function", "predict_function"):
        if getattr(model, name, None) is not None:
            setattr(model, name, None)
