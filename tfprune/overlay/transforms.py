"""Applies factors to a layer's weights, and hooks to its input, while the layer computes."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

import keras
from keras import ops

Factor = Callable[[bool], Any]
"""Gives what a weight is multiplied by, in training or not."""

Hook = Callable[[Any, bool], Any]
"""Takes what a layer is called on, in training or not, and returns what the layer reads instead."""

_ATTRIBUTE = "_tfprune_overlay"


class Overlay:
    """Factors on the weights of one layer. Its class, weights and configuration stay.

    Only the layer's `call` on this one object is replaced, so whatever looks at the weights from
    outside, saving and counting and `rebuild` among it, sees the weights that are trained.

    Args:
        layer: A built layer that reads its weights as attributes in `call`.
    """

    def __init__(self, layer: keras.Layer):
        self.layer = layer
        self.factors: dict[str, list[Factor]] = {}
        self.hooks: list[Hook] = []
        self._call = layer.call
        self._first = next(iter(signature(layer.call).parameters), None)

    def __call__(self, *args, **kwargs):
        """The layer's `call`, with the product of weight and factors in place of each weight."""
        training = bool(kwargs.get("training"))
        for hook in self.hooks:
            if args:
                args = (hook(args[0], training), *args[1:])
            else:
                kwargs[self._first] = hook(kwargs[self._first], training)
        attributes = vars(self.layer)
        # `__dict__`, since Keras would track the tensor that stands in for the variable.
        plain = {
            place: attributes[place]
            for place in (
                _place(self.layer, name) for name, applied in self.factors.items() if applied
            )
        }
        try:
            for name, factors in self.factors.items():
                if factors:
                    place = _place(self.layer, name)
                    attributes[place] = _product(plain[place], factors, training)
            return self._call(*args, **kwargs)
        finally:
            attributes.update(plain)


def _product(variable, factors, training):
    weight = ops.convert_to_tensor(variable)
    for factor in factors:
        weight = weight * ops.cast(factor(training), weight.dtype)
    return weight


def _place(layer, attribute: str) -> str:
    """The entry of `__dict__` that holds a weight; of `Dense.kernel` it is `_kernel`."""
    hidden = f"_{attribute}"
    return hidden if hidden in vars(layer) else attribute


def apply_factor(layer: keras.Layer, attribute: str, factor: Factor) -> None:
    """Multiplies a weight of a layer by a factor from now on; earlier factors stay.

    Args:
        layer: A built layer that reads the weight as an attribute in its `call`.
        attribute: The attribute that holds the weight, such as `"kernel"`.
        factor: Called as `factor(training)` each time the layer is; its result is broadcast
            against the weight.

    Raises:
        ValueError: If the layer has no such weight.

    Example:

    >>> import keras, numpy as np
    >>> layer = keras.layers.Dense(2, kernel_initializer="ones")
    >>> x = np.ones((1, 3), "float32")
    >>> layer.build(x.shape)
    >>> apply_factor(layer, "kernel", lambda training: np.array([1.0, 0.5]))
    >>> print(keras.ops.convert_to_numpy(layer(x)))
    [[3.  1.5]]
    >>> remove(layer)
    >>> print(keras.ops.convert_to_numpy(layer(x)))
    [[3. 3.]]
    """
    if not isinstance(vars(layer).get(_place(layer, attribute)), keras.Variable):
        raise ValueError(
            f"`attribute` must name a weight that {layer.name!r} ({type(layer).__name__}) holds "
            f"as an attribute. Received: attribute={attribute!r}"
        )
    _overlay(layer).factors.setdefault(attribute, []).append(factor)


def hook_input(layer: keras.Layer, hook: Hook) -> None:
    """Passes what a layer is called on through a function from now on; `remove` undoes it.

    Args:
        layer: A built layer with one input, such as `Dense` or `EinsumDense`.
        hook: Called as `hook(inputs, training)` each time the layer is; what it returns is what
            the layer reads.
    """
    _overlay(layer).hooks.append(hook)


def _overlay(layer):
    if _ATTRIBUTE not in vars(layer):
        vars(layer)[_ATTRIBUTE] = vars(layer)["call"] = Overlay(layer)
    return vars(layer)[_ATTRIBUTE]


def remove(layer: keras.Layer, applied: Factor | Hook | None = None) -> None:
    """Removes a factor or a hook.

    Args:
        layer: A layer; one that has none is left alone.
        applied: What `apply_factor` or `hook_input` was given; `None` removes all.
    """
    overlay = vars(layer).get(_ATTRIBUTE)
    if overlay is None:
        return
    for name, factors in overlay.factors.items():
        overlay.factors[name] = [f for f in factors if applied is not None and f != applied]
    overlay.hooks = [h for h in overlay.hooks if applied is not None and h != applied]
    if not any(overlay.factors.values()) and not overlay.hooks:
        del vars(layer)[_ATTRIBUTE]
        del vars(layer)["call"]


def gated_attributes(layer: keras.Layer) -> tuple[str, ...]:
    """The attributes of a layer whose weights have factors."""
    overlay = vars(layer).get(_ATTRIBUTE)
    if overlay is None:
        return ()
    return tuple(name for name, applied in overlay.factors.items() if applied)


def factors(layer: keras.Layer, attribute: str = "kernel") -> list[Factor]:
    """The factors on a weight of a layer.

    Args:
        layer: A layer.
        attribute: The attribute that holds the weight.
    """
    overlay = vars(layer).get(_ATTRIBUTE)
    return [] if overlay is None else list(overlay.factors.get(attribute, ()))
