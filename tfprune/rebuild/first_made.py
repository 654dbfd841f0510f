"""With which class and configuration layers were made that are others now.

The configuration of a model may spell out those of its layers, as a Functional one does. In a file
the cuts stand beside it, so it must say how the layers are made that are then cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import keras

from tfprune.keras_private.layers import layer_and_inner_layers
from tfprune.structures.by_shape.resizing import as_made

_FIRST_MADE = "_first_made"


def first_made(layer: keras.Layer, other: keras.Layer) -> dict[str, Any]:
    """What is to be known of a layer that becomes another one, but of its weights.

    Args:
        layer: The layer, as it is.
        other: What it becomes.

    Returns:
        An entry for `vars(layer)` once it is the other one. It is empty where the layer has no
        configuration.
    """
    known = vars(layer).get(_FIRST_MADE)
    if known is None:
        try:
            config, shapes = layer.get_config(), layer.get_build_config()
        except Exception:  # Whatever user code raises.
            return {}
        if type(layer) is type(other):
            # Of the rest, such as its functions, the layer knows more than a configuration.
            now = other.get_config()
            config = {name: x for name, x in config.items() if x != now.get(name)}
        known = type(layer), config, shapes
    return {_FIRST_MADE: known}


@contextmanager
def as_first_made(layer: keras.Layer) -> Iterator[None]:
    """Lets configurations of a layer and of those inside say meanwhile how they were made.

    Args:
        layer: A layer that keeps its cuts.
    """
    with as_made(layer), ExitStack() as undo:
        for inner in layer_and_inner_layers(layer):
            if _FIRST_MADE in vars(inner):
                undo.enter_context(_first_made(inner))
        yield


@contextmanager
def _first_made(layer):
    cls, config, shapes = vars(layer)[_FIRST_MADE]
    now, contents = type(layer), dict(vars(layer))
    own = layer.get_config if issubclass(now, cls) else dict
    vars(layer)["get_config"] = partial(_with, own, {**config, "trainable": layer.trainable})
    vars(layer)["get_build_config"] = lambda: shapes
    layer.__class__ = cls
    try:
        yield
    finally:
        layer.__class__ = now
        vars(layer).clear()
        vars(layer).update(contents)


def _with(get_config, changes):
    return {**get_config(), **changes}
