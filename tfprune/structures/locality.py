"""Tells by numbers whether a function treats each number of an array alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from keras import ops

# Of different lengths, so that an array mixed in, one value for each unit, does not fit them all.
_SHAPES = ((2, 7), (3, 2, 5), (2, 2, 1, 3))
_SCALES = (0.1, 1.0, 8.0, 300.0)


def treats_each_number_alone(function: Callable) -> bool:
    """Whether a function of an array is one and the same function of each number in it.

    What it is made of does not matter, so operations of TensorFlow and JAX, lambdas and partial
    functions are told from those that mix, such as softmax. Each number must give the same whether
    it is alone or among others, wherever it stands, whatever the others are (also where some are
    not finite, which nothing that mixes arithmetically hides), and each time anew.

    Args:
        function: Takes an array of float32 and returns one.

    Returns:
        `True` where that holds of all numbers tried. `False` too where the function cannot be
        called on arrays of any shape.
    """
    draw = np.random.default_rng(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return all(_holds(function, shape, draw) for shape in _SHAPES)
    except Exception:  # Whatever user code raises on arrays that it was not made for.
        return False


def _holds(function, shape, draw) -> bool:
    size = int(np.prod(shape))
    x = draw.normal(size=size) * draw.choice(_SCALES, size=size)
    x = x.astype("float32").reshape(shape)
    y = _value(function, x)
    if y is None or not _same(y, _value(function, x)):
        return False
    order = draw.permutation(size)
    moved = _value(function, x.reshape(-1)[order].reshape(shape))
    if moved is None or not _same(y.reshape(-1)[order], moved.reshape(-1)):
        return False
    among_odd = x.reshape(-1).copy()
    odd = order[: max(size // 3, 1)]
    among_odd[odd] = np.resize(np.array([np.nan, np.inf, -np.inf, 1e9], "float32"), len(odd))
    beside = _value(function, among_odd.reshape(shape))
    if beside is None or not _same(y.reshape(-1)[order[len(odd) :]], _rest(beside, order, odd)):
        return False
    return all(
        _same(expected.reshape(1, 1), _value(function, number.reshape(1, 1)))
        for number, expected in zip(x.reshape(-1), y.reshape(-1), strict=True)
    )


def _rest(values, order, odd):
    return values.reshape(-1)[order[len(odd) :]]


def _value(function, x):
    """What the function returns, `None` if that is no array of numbers of the same shape."""
    y = function(ops.convert_to_tensor(x))
    if tuple(getattr(y, "shape", ())) != x.shape:
        return None
    y = ops.convert_to_numpy(ops.cast(y, "float32"))
    return y if y.shape == x.shape else None


def _same(a, b) -> bool:
    return b is not None and np.allclose(a, b, rtol=1e-4, atol=1e-6, equal_nan=True)
