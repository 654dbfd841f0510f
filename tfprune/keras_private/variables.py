"""Variables that get another shape while everybody who refers to them keeps the same object."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

_PARTS = ("_shape", "_ndim", "_value")


def resize(variable: keras.Variable, shape: Iterable[int]) -> dict[str, Any]:
    """Gives a variable another shape; its value is zero afterwards.

    Assumes: a variable keeps its shape as `_shape` and `_ndim` and its value as `_value`, which
    `_initialize` makes anew.

    Args:
        variable: A variable that has a value.
        shape: Its new shape.

    Returns:
        What `restore` takes to undo it.
    """
    before = _parts(variable)
    shape = tuple(int(size) for size in shape)
    variable._shape, variable._ndim = shape, len(shape)
    variable._initialize(ops.zeros(shape, variable.dtype))
    return before


def restore(variable: keras.Variable, before: dict[str, Any]) -> None:
    """Undoes `resize`: the variable has the very value back that it had."""
    vars(variable).update(before)


@contextmanager
def standing_in(values: Iterable[tuple[keras.Variable, np.ndarray]]) -> Iterator[None]:
    """Lets variables have other values meanwhile, of whatever shape.

    Assumes: whoever reads a variable gets what `_value` holds, which may be a tensor.

    Args:
        values: Variables and arrays.
    """
    undo = []
    try:
        for variable, value in values:
            undo.append((variable, _parts(variable)))
            tensor = ops.convert_to_tensor(value, variable.dtype)
            shape = tuple(value.shape)
            vars(variable).update(_shape=shape, _ndim=len(shape), _value=tensor)
        yield
    finally:
        for variable, before in undo:
            restore(variable, before)


def _parts(variable):
    return {name: vars(variable)[name] for name in _PARTS}
