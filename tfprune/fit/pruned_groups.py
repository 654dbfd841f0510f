"""Holds the weights of pruned groups at exactly zero, whatever the optimizer does."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from tfprune.keras_private.optimizers import slots
from tfprune.structures import Structure


class PrunedGroups:
    """Which groups of some structures have been pruned in a fit.

    Momentum, weight decay, a moving average or an activation that is not zero at zero would move
    the weights of a pruned group again. So each of its weights gets a constraint, which Keras
    applies after every update inside the compiled step: it multiplies by a mask. The masks are
    variables of the optimizer, so that the step on JAX reads them, and a backup keeps them.

    Args:
        structures: The structures.

    Attributes:
        masks: One variable `(groups,)` for each structure, 1 where a group is left. They must be
            given to the optimizer before `constrain`.
    """

    def __init__(self, structures: Sequence[Structure]):
        self._structures = {s.name: s for s in structures}
        self.masks = [
            keras.Variable(
                np.ones(s.groups, "float32"),
                trainable=False,
                dtype="float32",
                autocast=False,
                name=f"{s.name.replace('/', '_')}_left",
            )
            for s in structures
        ]
        self._mask_of = dict(zip(self._structures, self.masks, strict=True))
        self._last_seen: dict[str, np.ndarray] = {}

    def constrain(self, undo) -> None:
        """Puts the constraints on the weights.

        Args:
            undo: A `contextlib.ExitStack` that removes them.
        """
        for structure in self._structures.values():
            for share in structure.slices:
                variable = share.variable
                undo.callback(setattr, variable, "constraint", variable.constraint)
                variable.constraint = _Kept(
                    self._mask_of[structure.name], structure, share, variable.constraint
                )

    def of(self, structure: Structure) -> np.ndarray:
        """Which groups of a structure are pruned, a boolean array `(groups,)`."""
        pruned = ops.convert_to_numpy(self._mask_of[structure.name]) == 0
        self._last_seen[structure.name] = pruned
        return pruned

    def last_seen(self) -> dict[str, np.ndarray]:
        """Structure name to which groups were pruned when that was last looked at.

        After an exception the variables may be gone, as they are on JAX.
        """
        return dict(self._last_seen)

    def prune(self, structure: Structure, groups: np.ndarray, optimizer) -> None:
        """Sets the weights of further groups to zero, and what the optimizer keeps of them.

        Args:
            structure: One of the structures.
            groups: Boolean array `(groups,)`, true for the groups to prune.
            optimizer: The optimizer that trains the model.
        """
        pruned = self.of(structure) | groups
        alive = (~pruned).astype("float32")
        self._last_seen[structure.name] = pruned
        self._mask_of[structure.name].assign(alive)
        self._silence(structure, alive, optimizer)

    def prune_again(self, optimizer) -> None:
        """Sets to zero what is pruned, where weights were set back to what they were before."""
        for structure in self._structures.values():
            alive = ops.convert_to_numpy(self._mask_of[structure.name])
            if not alive.all():
                self._silence(structure, alive, optimizer)

    def _silence(self, structure, alive, optimizer):
        structure.scale(alive)
        for share in structure.slices:
            for slot in slots(optimizer, share.variable):
                kept = ops.cast(structure.spread(ops.convert_to_tensor(alive), share), slot.dtype)
                slot.assign(ops.convert_to_tensor(slot) * kept)

    def restore(self, structure: Structure, pruned: np.ndarray) -> None:
        """Says which groups are pruned, without touching any weight: others may grow again."""
        self._last_seen[structure.name] = np.asarray(pruned)
        self._mask_of[structure.name].assign((~np.asarray(pruned)).astype("float32"))


class _Kept(keras.constraints.Constraint):
    """Multiplies one weight by the mask of its structure, after a constraint of its own."""

    def __init__(self, mask, structure, share, own):
        self.mask = mask
        self.structure = structure
        self.share = share
        self.own = own

    def __call__(self, value):
        value = ops.convert_to_tensor(value if self.own is None else self.own(value))
        mask = ops.convert_to_tensor(self.mask)
        return value * ops.cast(self.structure.spread(mask, self.share), value.dtype)
