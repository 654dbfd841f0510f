"""The values of variables in the rebuilt model: what is folded into them, zeroed and cut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import keras
import numpy as np
from keras import ops

from tfprune.keras_private.layers import plain_variable
from tfprune.keras_private.variables import view
from tfprune.overlay.folding import folded
from tfprune.overlay.transforms import transforms_of


class PlannedValues:
    """What the variables of a model are going to be. The variables themselves stay as they are.

    Values are kept where something was folded into them, which most have not; what is zeroed of the
    others is noted: a plan is to be small beside the model.
    """

    def __init__(self) -> None:
        self._folded: dict[int, np.ndarray] = {}
        self._silenced: dict[int, list[tuple]] = {}  # what indexes the zeros
        self._stay: dict[int, dict[int, np.ndarray]] = {}

    def fold_gates(self, layers: Iterable[keras.Layer]) -> None:
        """Multiplies the gates over a variable into it, each once however many structures cut it.

        A kernel between two structures of a chain has the gates of both.
        """
        for layer in {id(x): x for x in layers}.values():
            for attribute, transforms in transforms_of(layer).items():
                variable = plain_variable(layer, attribute)
                value = folded(self.read(variable), transforms)
                self.write(variable, ops.convert_to_numpy(value))

    def read(self, variable) -> np.ndarray:
        """The value of a variable with what has been folded into it, not yet cut.

        It may be the memory of the variable, and is not to be written to.
        """
        value = self._folded.get(id(variable))
        value = view(variable) if value is None else value
        if id(variable) in self._silenced:
            value = np.array(value)
            for zeros in self._silenced[id(variable)]:
                value[zeros] = 0
        return value

    def write(self, variable, value: np.ndarray) -> None:
        """Gives a variable another value, not yet cut."""
        self._folded[id(variable)] = value
        self._silenced.pop(id(variable), None)  # It was read without them.

    def silence(self, variable, at: tuple) -> None:
        """Sets what an index picks out of a variable to zero."""
        if np.any(self.read(variable)[at]):
            self._silenced.setdefault(id(variable), []).append(at)

    def keep_only(self, variable, positions: Mapping[int, np.ndarray]) -> None:
        """Says which positions of a variable stay along some of its axes."""
        self._stay[id(variable)] = dict(positions)

    def length(self, variable, axis: int) -> int:
        """How many positions stay along an axis."""
        stay = self._stay.get(id(variable), {}).get(axis)
        return variable.shape[axis] if stay is None else len(stay)

    def value(self, variable) -> np.ndarray:
        """The value of a variable in the rebuilt model."""
        value = self.read(variable)
        for axis, positions in self._stay.get(id(variable), {}).items():
            value = np.take(value, positions, axis=axis)
        return value

    def changes(self, variable) -> bool:
        """Whether a variable has another value in the rebuilt model."""
        key = id(variable)
        return key in self._folded or key in self._silenced or bool(self._stay.get(key))

    def hand_over(self, source, target) -> None:
        """Gives a variable of the rebuilt model its value and its trainable flag."""
        target.assign(self.value(source))
        if target.trainable != source.trainable:
            target.trainable = source.trainable
