"""Variables that get another shape while everybody who refers to them keeps the same object."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

_PARTS = ("_shape", "_ndim", "_value")


def view(variable: keras.Variable) -> np.ndarray:
    """The value of a variable, without a copy where it can do without. It is not to be written to.

    Assumes: tensors of TensorFlow and JAX in the memory of the processor can be read through
    Python's buffer protocol, but for types that it does not know, such as bfloat16; and what is
    assigned to a variable later is put elsewhere as long as somebody reads there.

    Args:
        variable: A variable.
    """
    value = variable.value
    try:
        # TensorFlow's variables give their tensor when they are asked.
        value = value.value() if hasattr(value, "value") else value
        return np.asarray(memoryview(value))
    except Exception:  # Whatever a backend raises whose tensors cannot be read so.
        return ops.convert_to_numpy(variable)


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
    if variable._value is not None:  # As it is in a layer whose values are yet to come.
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
