"""Lays factors over a kernel while its layer computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

Factor = Callable[[bool], Any]
"""Gives what the kernel is multiplied by, in training or not."""

Tap = Callable[[Any, bool], Any]
"""Takes what the kernel reads, in training or not, and passes it on, changed or noted."""

_ATTRIBUTE = "_tfprune_overlay"


class Overlay:
    """Factors that stand over one kernel. The layer's class, weights and configuration stay.

    Only the layer's `call` on this one object is replaced, so whatever looks at the kernel from
    outside, saving and counting and `rebuild` among it, sees the weights that are trained.

    Args:
        layer: A built `Dense` or `EinsumDense` layer.
    """

    def __init__(self, layer: keras.Layer):
        self.layer = layer
        self.factors: list[Factor] = []
        self.taps: list[Tap] = []
        self._call = layer.call
        # `__dict__`, since Keras would track the tensor that stands in for the variable.
        self._name = "_kernel" if "_kernel" in vars(layer) else "kernel"

    def __call__(self, inputs, *args, **kwargs):
        """The layer's `call`, with the product of kernel and factors as the kernel."""
        training = bool(kwargs.get("training"))
        for tap in self.taps:
            inputs = tap(inputs, training)
        plain = vars(self.layer)[self._name]
        kernel = ops.convert_to_tensor(plain)
        for factor in self.factors:
            kernel = kernel * ops.cast(factor(training), kernel.dtype)
        vars(self.layer)[self._name] = kernel
        try:
            return self._call(inputs, *args, **kwargs)
        finally:
            vars(self.layer)[self._name] = plain


def lay(layer: keras.Layer, factor: Factor) -> None:
    """Multiplies a layer's kernel by a factor from now on; factors laid before stay.

    Args:
        layer: A built `Dense` or `EinsumDense` layer.
        factor: Called as `factor(training)` each time the layer is; its result is broadcast
            against the kernel.

    Example:

    >>> import keras, numpy as np
    >>> layer = keras.layers.Dense(2, kernel_initializer="ones")
    >>> x = np.ones((1, 3), "float32")
    >>> layer.build(x.shape)
    >>> lay(layer, lambda training: np.array([1.0, 0.5]))
    >>> print(keras.ops.convert_to_numpy(layer(x)))
    [[3.  1.5]]
    >>> lift(layer)
    >>> print(keras.ops.convert_to_numpy(layer(x)))
    [[3. 3.]]
    """
    _overlay(layer).factors.append(factor)


def tap(layer: keras.Layer, function: Tap) -> None:
    """Lets a function see, and change, what a layer reads from now on; `lift` takes it off.

    Args:
        layer: A built `Dense` or `EinsumDense` layer.
        function: Called as `function(inputs, training)` each time the layer is; what it returns is
            what the layer reads.
    """
    _overlay(layer).taps.append(function)


def _overlay(layer):
    if _ATTRIBUTE not in vars(layer):
        vars(layer)[_ATTRIBUTE] = vars(layer)["call"] = Overlay(layer)
    return vars(layer)[_ATTRIBUTE]


def lift(layer: keras.Layer, laid: Factor | Tap | None = None) -> None:
    """Takes a factor or a tap off again.

    Args:
        layer: A layer; one that carries nothing is left alone.
        laid: What `lay` or `tap` was given; `None` takes off all.
    """
    overlay = vars(layer).get(_ATTRIBUTE)
    if overlay is None:
        return
    overlay.factors = [f for f in overlay.factors if laid is not None and f != laid]
    overlay.taps = [t for t in overlay.taps if laid is not None and t != laid]
    if not overlay.factors and not overlay.taps:
        del vars(layer)[_ATTRIBUTE]
        del vars(layer)["call"]


def factors(layer: keras.Layer) -> list[Factor]:
    """The factors that lie over a layer's kernel."""
    overlay = vars(layer).get(_ATTRIBUTE)
    return [] if overlay is None else list(overlay.factors)
