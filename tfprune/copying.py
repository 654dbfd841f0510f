"""Copies layers from their configurations, with the very functions that they have.

A configuration names a function, which Keras then looks up: of a function of TensorFlow or of the
user that is called `gelu` it makes Keras's own, a partial function it cannot write, a lambda it
does not read back. In one process there is no need for names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from itertools import count
from typing import Any

import keras

from tfprune.keras_private.layers import is_of_keras, layer_and_inner_layers
from tfprune.keras_private.serialization import also_known, trusting

_numbers = count()


def copy_from_config(
    layer: keras.Layer,
    changes: dict[str, Any] | None = None,
    make: Callable[[dict], Any] | None = None,
    get_config: Callable[[], dict] | None = None,
) -> Any:
    """A new layer from the configuration of another one.

    Args:
        layer: The layer.
        changes: Entries of the configuration to change.
        make: What makes the new layer from a configuration; `from_config` of its class by default.
        get_config: What returns its configuration, by default its method.

    Returns:
        What `make` returns; by default a layer that is not built.

    Raises:
        Exception: Whatever `get_config` and `make` raise.
    """
    get_config = get_config or layer.get_config
    make = make or type(layer).from_config
    functions: dict[str, Callable] = {}
    with trusting(), also_known(_classes_of(layer)):
        try:
            with _standing_in(layer, functions):
                config = _not_built(layer, get_config())
            with also_known(functions):
                return make({**config, **(changes or {})})
        except Exception:
            if not functions:
                raise
        # A `get_config` that looks at which function it has, and writes down a name of its own.
        return make({**_not_built(layer, get_config()), **(changes or {})})


def _not_built(layer, config):
    """A configuration that does not say how the layers in a layer of Keras were built.

    It builds them itself, maybe for fewer numbers than before. `Bidirectional` is no `Wrapper`.
    """
    holds_layers = (keras.layers.Wrapper, keras.layers.Bidirectional)
    if not isinstance(layer, holds_layers) or not is_of_keras(layer):
        return config
    return {
        name: {key: part for key, part in value.items() if key != "build_config"}
        if isinstance(value, dict)
        else value
        for name, value in config.items()
    }


def own_config(config: Any) -> Any:
    """A copy of a configuration that a `from_config` may take apart.

    Keras's wrappers take their layer out of what they are given. Objects in it stay the same.

    Args:
        config: A configuration, or a part of one.
    """
    if isinstance(config, dict):
        return {key: own_config(part) for key, part in config.items()}
    return [own_config(part) for part in config] if type(config) is list else config


def class_without_cuts(layer: keras.Layer) -> type:
    """The class of a layer; of one that keeps its cuts the class that it was cut from.

    That of a layer with cuts is made on the fly from `Pruned` and the class of the layer.
    """
    return type(layer).__mro__[2] if hasattr(layer, "_cuts") else type(layer)


def _classes_of(layer) -> dict[str, type]:
    """The classes of a layer and of those inside it, by name, of users that registered none.

    A name that stands for two classes is left out.
    """
    found: dict[str, set[type]] = {}
    for inner in layer_and_inner_layers(layer):
        cls = class_without_cuts(inner)
        if cls.__module__.split(".")[0] not in ("keras", "keras_hub", "tfprune"):
            found.setdefault(cls.__name__, set()).add(cls)
    return {name: classes.pop() for name, classes in found.items() if len(classes) == 1}


@contextmanager
def _standing_in(layer, functions) -> Iterator[None]:
    """Puts functions with names of their own in the place of those that a layer holds."""
    undo = []
    names: dict[int, Callable] = {}
    try:
        for inner in layer_and_inner_layers(layer):
            for name, value in list(vars(inner).items()):
                if not is_function_of_its_own(inner, name, value):
                    continue
                if id(value) not in names:
                    names[id(value)] = _stand_in(value, functions)
                undo.append((inner, name, value))
                vars(inner)[name] = names[id(value)]
        yield
    finally:
        for inner, name, value in undo:
            vars(inner)[name] = value


def is_function_of_its_own(layer: keras.Layer, name: str, value: Any) -> bool:
    """Whether an attribute is a function that a configuration may hold but not name."""
    if not callable(value) or isinstance(value, (keras.Layer, type)):
        return False
    if hasattr(value, "get_config") or hasattr(type(layer), name):
        return False  # A Keras object says itself what it is; methods belong to the layer.
    known = getattr(keras.activations, getattr(value, "__name__", None) or "", None)
    return known is not value


def _stand_in(function, functions):
    name = f"tfprune_function_{next(_numbers)}"

    @wraps(function, assigned=("__doc__",), updated=())
    def stand_in(*args, **kwargs):
        return function(*args, **kwargs)

    stand_in.__name__ = stand_in.__qualname__ = name
    functions[name] = function
    return stand_in
