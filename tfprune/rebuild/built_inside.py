"""Makes the weights of layers inside a layer whose own `build()` does not make them.

Keras makes them when the layer is called, and a file says the shape of the first argument alone. So
a layer that keeps its cuts says in its file how each layer inside was built. Where that is not
known, as in earlier files, the layer is called on what could have been its arguments.
"""

from __future__ import annotations

import warnings
from itertools import product
from typing import Any

import keras

from tfprune.copying import class_without_cuts
from tfprune.keras_private.functional import forgetting_calls, is_functional
from tfprune.keras_private.layers import inner_layers, layer_and_inner_layers
from tfprune.keras_private.tracing import run_abstractly
from tfprune.structures.graph import arguments_from_build, trace, with_or_without_sizes

Builds = list[dict[str, Any]]


def builds_inside(layer: keras.Layer) -> Builds | None:
    """How the layers inside a layer were built, for `build_inside`.

    Args:
        layer: A built layer.

    Returns:
        An entry for each layer directly inside: `"build"`, what its `get_build_config()` says, and
        `"inside"`, the same for those inside it. `None` where the class of the layer has a
        `build()` of its own, or a graph, which makes them.
    """
    # The class that keeps cuts wraps the `build()` of the one that it is made of.
    classes = class_without_cuts(layer).__mro__
    own = next(vars(cls)["build"] for cls in classes if "build" in vars(cls))
    if own not in (keras.Layer.build, keras.Model.build) or is_functional(layer):
        return None
    return [
        {"build": inner.get_build_config(), "inside": builds_inside(inner)}
        for inner in inner_layers(layer, recursive=False)
    ]


def build_inside(layer: keras.Layer, builds: Builds | None = None) -> None:
    """Makes the weights inside a layer that its `build()` has not made.

    Args:
        layer: A layer.
        builds: What `builds_inside` returned for one like it. Without, the layer is called: on
            symbolic tensors, or where they are not enough, such as for operations of TensorFlow,
            it is run on tensors without values. If it cannot be called on numbers, it is on ids,
            and then on numbers with Keras masks.

    Raises:
        Untraceable: If it cannot be called, or was never built.
    """
    _build(layer, builds)
    if not all(inner.built for inner in inner_layers(layer)):
        _call(layer)
    layer.built = True


def _build(layer, builds) -> None:
    inside = inner_layers(layer, recursive=False)
    if builds is None or len(builds) != len(inside):
        return
    with warnings.catch_warnings():
        # That it leaves layers without weights, which come next.
        warnings.filterwarnings("ignore", message=".*looks like it has unbuilt state")
        for inner, known in zip(inside, builds, strict=True):
            if known["build"] and not inner.built:
                inner.build_from_config(known["build"])
            _build(inner, known["inside"])


def _call(layer) -> None:
    reason: Exception | None = None
    kinds: tuple[dict[str, Any], ...] = ({}, {"dtype": "int32"}, {"masked": True})
    for call, kind in product((trace, run_abstractly), kinds):
        given, named = arguments_from_build(layer, **kind)
        # Keras counts calls from the first: a file of a model around this one says which it means.
        with forgetting_calls(layer_and_inner_layers(layer)):
            try:
                with_or_without_sizes(lambda *x, call=call: call(layer, *x), given, named)
                return
            except Exception as error:  # Whatever user code raises.
                reason = reason or error
    assert reason is not None  # Something was tried.
    raise reason
