"""Scalars that a compiled training step reads and a callback changes."""

from __future__ import annotations

import keras
import numpy as np

from tfprune.model_parts import add_part, remove_part, variables_scope

_ATTRIBUTE = "pruning_pressure"


class Pressure(keras.Layer):
    """Holds the strength of each structure's penalty while a model is trained.

    It is a layer so that the model tracks its variables: on JAX a variable that is not tracked is
    baked into the compiled step. Nothing of it is needed to load a model that was saved during
    training. `BackupAndRestore`, which loads into a model that carries it, gets its notes back.

    Args:
        structures: Number of structures.
    """

    def __init__(self, structures: int):
        super().__init__(name=_ATTRIBUTE, dtype="float32")
        self.strengths = self.add_weight(
            name="strengths", shape=(structures,), initializer="zeros", trainable=False
        )
        # Reference size of each structure's weights, then the steps of the phases; NaN is unset.
        self.notes = self.add_weight(
            name="notes", shape=(structures + 5,), initializer="zeros", trainable=False
        )
        self.notes.assign(np.full(structures + 5, np.nan, "float32"))
        self.built = True
        self.in_use = False
        self.pressed = _Untracked()  # Variable, the regularizer it had, the one laid on top.

    def press(self, variable: keras.Variable, regularizer) -> None:
        """Lays a regularizer on a variable, on top of the one it has, until `detach`."""
        own = variable.regularizer
        self.pressed.append((variable, own, regularizer))
        variable.regularizer = regularizer if own is None else lambda x: own(x) + regularizer(x)

    def penalties(self):
        """The sum of what presses, a scalar."""
        return sum((regularizer(variable) for variable, _, regularizer in self.pressed.items), 0.0)

    def call(self, inputs):
        """Passes its input on; it is never called."""
        return inputs


class _Untracked:
    """A list that Keras does not look into: what is in it is tracked elsewhere."""

    def __init__(self):
        self.items = []

    def append(self, item):
        self.items.append(item)


def attach(model: keras.Model, structures: int) -> Pressure:
    """Gives a model a `Pressure` layer, on all its devices.

    Raises:
        ValueError: If the model has one already.
    """
    left_behind = getattr(model, _ATTRIBUTE, None)
    if left_behind is not None and left_behind.in_use:
        detach(model)  # An earlier fit was interrupted.
    elif left_behind is not None:
        raise ValueError(
            "The model is already being pruned by a callback of this kind; give `fit` one of them, "
            "with a dictionary as `strength` if structures differ."
        )
    with variables_scope(model):
        pressure = Pressure(structures)
    add_part(model, _ATTRIBUTE, pressure)
    return pressure


def detach(model: keras.Model) -> None:
    """Takes the `Pressure` layer and its regularizers away again."""
    pressure = getattr(model, _ATTRIBUTE, None)
    if pressure is not None:
        for variable, own, _ in reversed(pressure.pressed.items):  # The last lies on top.
            variable.regularizer = own
        remove_part(model, _ATTRIBUTE)
