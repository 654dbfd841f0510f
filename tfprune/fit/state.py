"""What one callback keeps on a model while it is trained."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from tfprune.keras_private.fits import OwnLosses
from tfprune.model_parts import add_untrained

_MOMENTS = ("start", "start_metric", "stop", "stop_metric")


class State(OwnLosses):
    """Numbers that a compiled step reads or that a resumed fit needs, and penalties on the loss.

    It is a layer so that the model tracks its variables: on JAX a variable that is not tracked is
    compiled in as a constant, and `BackupAndRestore` saves what the model tracks. Nothing of it is
    needed to load a model that was saved during training.

    Args:
        structures: Number of structures.
        name: Name of the layer.

    Attributes:
        strengths: Variable `(structures,)`, the present strengths of the penalties.
        references: Variable `(structures,)`, one number for each structure; NaN until it is set.
        control: Variable `(structures, 3)`, what `StrengthControl` keeps; NaN until it is set.
        penalties: Functions of no argument that return a scalar, which joins the loss of training.
    """

    def __init__(self, structures: int, name: str):
        super().__init__(name=name, dtype="float32")
        self.strengths = add_untrained(self, "strengths", (structures,))
        self.references = add_untrained(self, "references", (structures,), np.nan)
        self._decided = add_untrained(self, "decided", ())
        self._begun = add_untrained(self, "begun", (), np.nan)
        self._moments = add_untrained(self, "moments", (len(_MOMENTS),), np.nan)
        self.control = add_untrained(self, "control", (structures, 3), np.nan)
        self.built = True
        self.penalties = _Untracked()

    def add_factors(self, structure: int, groups: int) -> keras.Variable:
        """A variable `(groups,)` of zeros, for factors on the groups of a structure in a penalty.

        Args:
            structure: The number of the structure.
            groups: How many groups it has.
        """
        return add_untrained(self, f"factors_{structure}", (groups,))

    def add_penalty(self, penalty) -> None:
        """Adds a function of no argument to the loss."""
        self.penalties.append(penalty)

    def penalty(self) -> float | None:
        """The sum of the penalties as they are now, or `None` if there are none."""
        values = [float(ops.convert_to_numpy(value)) for value in self.own_losses()]
        return sum(values) if values else None

    @property
    def is_ignored(self) -> bool:
        """Whether there are penalties, and a step was made that did not read them."""
        return any(True for _ in self.penalties) and not self.was_read

    def own_losses(self):
        """The penalties, computed now."""
        return [penalty() for penalty in self.penalties]

    def since_start(self, step: int) -> int:
        """Steps since pruning began, in this fit or in the part of it before a resume."""
        begun = ops.convert_to_numpy(self._begun)
        if np.isnan(begun):
            self._begun.assign(step)
            begun = step
        return step - int(begun)

    @property
    def has_begun(self) -> bool:
        """Whether pruning has begun, in this fit or in the part of it before a resume."""
        return not np.isnan(ops.convert_to_numpy(self._begun))

    @property
    def decided(self) -> bool:
        """Whether it is settled what is removed, in this fit or in the part before a resume."""
        return bool(ops.convert_to_numpy(self._decided))

    def decide(self) -> None:
        """It is settled what is removed."""
        self._decided.assign(1.0)

    def moments(self) -> dict[str, float]:
        """When the phases of pruning began, as far as that is known, and the metrics watched."""
        values = ops.convert_to_numpy(self._moments)
        return {n: float(v) for n, v in zip(_MOMENTS, values, strict=True) if not np.isnan(v)}

    def keep_moment(self, name: str, value: float) -> None:
        """Keeps one of `moments`."""
        values = ops.convert_to_numpy(self._moments).copy()
        values[_MOMENTS.index(name)] = value
        self._moments.assign(values)


class _Untracked:
    """A list that Keras does not look into: what is in it is tracked elsewhere."""

    def __init__(self):
        self._items = []

    def append(self, item):
        self._items.append(item)

    def __iter__(self):
        return iter(self._items)
