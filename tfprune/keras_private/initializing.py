"""Weights that are made only to be overwritten."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import keras
from keras import ops
from keras.src import backend
from keras.src.initializers.random_initializers import RandomInitializer


@contextmanager
def nothing_for_random_values() -> Iterator[None]:
    """Lets weights have no value meanwhile where it would be drawn, for copies of layers.

    Drawing takes longer than all else that is done to copy a large model, and what is drawn is
    overwritten at once. Until they are assigned, such weights take no memory and are read as zeros.
    `complete` makes them so.

    Assumes: a variable calls its initializer in `_initialize_with_initializer` of the backend's
    class, or, if it was made in a stateless scope, in `_deferred_initialize`; what draws is a
    `RandomInitializer`, and the states of random generators are not. A variable whose `_value` is
    `None` is read as what `_initializer` makes, as in a stateless scope; `_initialize` gives it its
    value, and `assign` ends in `_direct_assign`.
    """
    cls = backend.Variable
    names = ("_initialize_with_initializer", "_deferred_initialize", "_direct_assign")
    plain = {name: getattr(cls, name) for name in names}

    def initialize(self, initializer):
        if isinstance(initializer, RandomInitializer):
            self._value, self._initializer = None, _zeros
        else:
            plain["_initialize_with_initializer"](self, initializer)

    def initialize_deferred(self):
        if isinstance(self._initializer, RandomInitializer):
            self._initializer = _zeros
        elif self._initializer is not _zeros:
            plain["_deferred_initialize"](self)

    def assign(self, value):
        if self._initializer is _zeros:
            self._initializer = None
            self._initialize(value)
        else:
            plain["_direct_assign"](self, value)

    before = {name: vars(cls).get(name) for name in names}
    for name, function in zip(names, (initialize, initialize_deferred, assign), strict=True):
        setattr(cls, name, function)
    try:
        yield
    finally:
        for name, function in before.items():
            if function is None:  # It is inherited.
                delattr(cls, name)
            else:
                setattr(cls, name, function)


def complete(variables: Iterable[keras.Variable]) -> None:
    """Gives those variables zeros that `nothing_for_random_values` left without a value.

    Assumes as that does, and that `_deferred_initialize` makes the value.
    """
    for variable in variables:
        if variable._value is None:
            variable._deferred_initialize()


def _zeros(shape, dtype=None):
    return ops.zeros(shape, dtype)
