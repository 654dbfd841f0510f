"""Weights that are made only to be overwritten."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from keras import ops
from keras.src import backend
from keras.src.initializers.random_initializers import RandomInitializer


@contextmanager
def zeros_for_random_values() -> Iterator[None]:
    """Lets weights start as zeros meanwhile where they would be drawn, for copies of layers.

    Drawing takes longer than all else that is done to copy a large model, and what is drawn is
    overwritten at once.

    Assumes: a variable calls its initializer in `_initialize_with_initializer` of the backend's
    class, and what draws is a `RandomInitializer`; the states of random generators are not.
    """
    cls = backend.Variable
    plain = cls._initialize_with_initializer

    def initialize(self, initializer):
        if isinstance(initializer, RandomInitializer):
            initializer = _zeros
        plain(self, initializer)

    cls._initialize_with_initializer = initialize
    try:
        yield
    finally:
        cls._initialize_with_initializer = plain


def _zeros(shape, dtype=None):
    return ops.zeros(shape, dtype)
