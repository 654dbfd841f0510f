"""Weights that get their values back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras
from keras import ops

from tfprune.structures import Structures


@contextmanager
def readers_restored(structures: Structures, always: bool = False) -> Iterator[None]:
    """Gives what reads the groups of structures its values back: kernels, and biases behind them.

    Args:
        structures: The structures.
        always: Whether they get them back at the end of the `with` block in any case, or only if
            something fails in it.
    """
    variables: dict[int, keras.Variable] = {}
    for structure in structures:
        for share in structure.consumers:
            both = (share.variable, share.bias_variable)
            variables |= {id(v): v for v in both if v is not None}
    before = [(v, ops.convert_to_numpy(v).copy()) for v in variables.values()]
    failed = True
    try:
        yield
        failed = False
    finally:
        if always or failed:
            for variable, value in before:
                variable.assign(value)
