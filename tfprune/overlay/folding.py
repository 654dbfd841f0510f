"""Transforms of weights, and how they are written into the weights themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from keras import ops

Transform = Callable[[Any, bool], Any]
"""Takes a weight, a tensor, and whether the call is one in training; returns a tensor of that shape
and type, with which the layer computes instead."""


def times(factor: Callable[[bool], Any]) -> Transform:
    """A transform that multiplies a weight.

    Args:
        factor: Called as `factor(training)` each time the weight is read; its result is broadcast
            against the weight.
    """

    def transform(weight, training):
        return weight * ops.cast(factor(training), weight.dtype)

    return transform


def folded(weight: Any, transforms: Iterable[Transform], training: bool = False) -> Any:
    """A weight with transforms written into it, a tensor.

    Args:
        weight: The weight: a variable, a tensor or an array.
        transforms: The transforms, in order.
        training: Whether it is the weight of a call in training.
    """
    weight = ops.convert_to_tensor(weight)
    for transform in transforms:
        weight = transform(weight, training)
    return weight
