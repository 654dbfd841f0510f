"""Layers inside layers, their variables, and how Keras keeps track of both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from inspect import signature
from typing import Any

import keras


def inner_layers(layer: keras.Layer, recursive: bool = True) -> list[keras.Layer]:
    """The layers inside a layer, without itself.

    Assumes: `_flatten_layers` finds layers in attributes and in tracked lists and dictionaries,
    at every depth, in an order that depends on how the layer is made alone.

    Args:
        layer: A layer.
        recursive: Whether the layers inside those are found too.
    """
    return layer._flatten_layers(include_self=False, recursive=recursive)


def layer_and_inner_layers(layer: keras.Layer) -> list[keras.Layer]:
    """A layer and the layers inside it.

    Assumes as `inner_layers` does.
    """
    return layer._flatten_layers()


def own_variables(layer: keras.Layer) -> list[keras.Variable]:
    """The variables that a layer holds itself, not those of layers inside.

    Assumes: they are `_trainable_variables` and `_non_trainable_variables`, in the order in
    which they were made.
    """
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def own_variables_by_name(layer: keras.Layer) -> dict[str, keras.Variable]:
    """The variables that a layer holds itself as attributes, by the name of the attribute.

    Assumes as `own_variables` does, and that a property has its variable under the same name with
    an underscore in front, which is left out.
    """
    mine = {id(variable) for variable in own_variables(layer)}
    return {
        name.removeprefix("_"): value
        for name, value in vars(layer).items()
        if isinstance(value, keras.Variable) and id(value) in mine
    }


def plain_variable(layer: keras.Layer, attribute: str) -> keras.Variable:
    """The variable behind an attribute, without LoRA or whatever else the attribute adds.

    Assumes as `variable_name` does.
    """
    return getattr(layer, variable_name(layer, attribute))


def variable_name(layer: keras.Layer, attribute: str) -> str:
    """The name in a layer's `__dict__` under which the variable of an attribute lies.

    Assumes: a property such as `Dense.kernel` has its variable under the same name with an
    underscore in front, and that others lie under their own name.
    """
    private = f"_{attribute}"
    return private if isinstance(vars(layer).get(private), keras.Variable) else attribute


def first_layer(model: keras.Sequential) -> keras.Layer | None:
    """The first layer that a Sequential model tracks, its `InputLayer` if it has one.

    Assumes: it keeps its layers as `_layers`, and computes its variables from theirs.
    """
    return next(iter(model._layers), None)


def build_shapes(layer: keras.Layer) -> dict[str, Any]:
    """The shapes with which a layer was built, by argument of `build`; empty if it never was.

    Assumes: Keras keeps them as `_build_shapes_dict` when it calls `build`.
    """
    return getattr(layer, "_build_shapes_dict", None) or {}


def set_build_shapes(layer: keras.Layer, shapes: dict[str, Any]) -> None:
    """Tells a layer the shapes with which it was built.

    Assumes: `get_build_config` reads them from `_build_shapes_dict`.
    """
    layer._build_shapes_dict = shapes or None


@contextmanager
def unlocked(layer: keras.Layer) -> Iterator[None]:
    """Lets a built layer take or lose variables and layers meanwhile.

    Assumes: `_tracker` refuses that while locked, as it is once a layer is built.
    """
    layer._tracker.unlock()
    try:
        yield
    finally:
        layer._tracker.lock()


def track(layer: keras.Layer, other: keras.Layer) -> None:
    """Lets a layer take another one as a layer inside, without an attribute that holds it.

    Its variables are trained; what is saved is found by attributes, and so it is not.

    Assumes: `_tracker` lists the layers inside under `"layers"`.
    """
    layer._tracker.add_to_store("layers", other)


def untrack(layer: keras.Layer, value: Any) -> None:
    """Lets a layer forget a variable or layer inside that it no longer has as an attribute.

    Assumes: `_tracker.untrack` does so.
    """
    layer._tracker.untrack(value)


def give_signatures(wrapper: keras.Layer, layer: keras.Layer) -> None:
    """Lets Keras call and build a wrapper with the arguments of the layer inside.

    To be called before `keras.Layer.__init__`. Then what Keras does by the names of arguments
    (shapes for `build`, masks, `training`) is done for the wrapper as for the layer.

    Assumes: `Layer.__init__` looks at the signature of `self.call`, that a layer has that as
    `_call_signature` from then on, and that `build` is a function of the object, whose signature is
    looked at when a layer is called for the first time.

    Args:
        wrapper: A wrapper whose class has `call(*args, **kwargs)` and `build(*args, **kwargs)`.
        layer: The layer inside.
    """
    plain = wrapper.call

    def call(*args, **kwargs):
        return plain(*args, **kwargs)

    vars(call)["__signature__"] = layer._call_signature
    vars(wrapper)["call"] = call
    vars(wrapper)["build"].__signature__ = signature(layer.build)


@cache
def kept_by_keras(model: bool) -> frozenset[str]:
    """The attributes that Keras keeps in every layer, or in every model, for itself.

    What says how a layer behaves is left out.

    Assumes: making a layer or a model sets them all, but for what `compile` and `fit` add to a
    model, and what TensorFlow adds to a layer, which begins with `_self_`.

    Args:
        model: Whether the attributes of models are meant.
    """
    names = set(vars(keras.Layer(name="names")))
    if model:
        x = keras.Input((1,))
        # Functional models keep their graph by the `id`s of their layers.
        for made in (keras.Model(name="names"), keras.Model(x, x), keras.Sequential([x])):
            names.update(vars(made))
    behaviour = {
        "activity_regularizer",
        "autocast",
        "supports_jit",
        "_trainable",
        "_supports_masking",
        "_input_spec",
        "_convert_input_args",
        "_allow_non_tensor_positional_args",
    }
    added = {"optimizer", "loss", "history", "stop_training", "_loss_tracker", "_parent_path"}
    return frozenset(names - behaviour) | (added if model else frozenset())


def is_of_keras(layer: keras.Layer) -> bool:
    """Whether Keras, KerasHub or this library wrote a layer's class."""
    return type(layer).__module__.split(".")[0] in ("keras", "keras_hub", "tfprune")


@contextmanager
def with_policy(layer: keras.Layer, policy: keras.DTypePolicy) -> Iterator[None]:
    """A layer has another dtype policy while the context lasts.

    Assumes: it is the attribute `_dtype_policy`. The property beside it writes into a
    `DTypePolicyMap` that several layers may share.
    """
    before = vars(layer)["_dtype_policy"]
    vars(layer)["_dtype_policy"] = policy
    try:
        yield
    finally:
        vars(layer)["_dtype_policy"] = before
