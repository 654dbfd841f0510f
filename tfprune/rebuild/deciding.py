"""Which groups stay, and where the constants go that others have emitted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from tfprune.rebuild.carrying import carried
from tfprune.rebuild.values import PlannedValues
from tfprune.structures import Structure, Structures


def decided(
    structures: Structures,
    keep: Mapping[str, np.ndarray],
    never_empty: Collection[str],
    values: PlannedValues,
) -> dict[str, np.ndarray]:
    """Decides which groups stay.

    Args:
        structures: The structures of a model.
        keep: Structure name to boolean array `(groups,)`. Groups of other structures go by their
            weights.
        never_empty: Names of structures of which one group always stays, if only as zeros.
        values: The values of the variables, into which constants are folded.

    Returns:
        Structure name to the numbers of the groups that stay.
    """
    decisions = _Decisions(structures, never_empty, values)
    decisions.decide_all(keep)
    return decisions.left


class _Decisions:
    def __init__(self, structures, never_empty, values):
        self.structures = structures
        self.left: dict[str, np.ndarray] = {}
        self._never_empty = set(never_empty)
        self._values = values

    def decide_all(self, keep: Mapping[str, np.ndarray]) -> None:
        """Decides until nothing more goes: a group may be read by groups alone that have gone.

        Args:
            keep: As in `decided`.
        """
        before = sum(structure.groups for structure in self.structures)
        while True:
            for structure in self.structures:
                self._decide(structure, keep.get(structure.name))
            left = sum(len(numbers) for numbers in self.left.values())
            if left == before:
                return
            before = left

    def _decide(self, structure: Structure, keep) -> None:
        if keep is None:
            emissions = structure.all_emitted(self._values.read)
            stays = self._alive(structure, emissions)
            self._fold(structure, stays, emissions)
            stays = self._carry(structure, stays, emissions)
        else:
            stays = keep
        least = max(structure.least, structure.name in self._never_empty)
        if np.count_nonzero(stays) < least:
            chosen = np.arange(structure.groups) < least
            # What they emit has been folded already, or is not wanted.
            self._silence(structure, chosen & ~stays, structure.consumers)
            stays = chosen
        self.left[structure.name] = np.flatnonzero(stays)
        self._silence(structure, ~stays, structure.slices)

    def _alive(self, structure: Structure, emissions: list) -> np.ndarray:
        """Which groups must stay, by their weights."""
        read_by_none = np.logical_and.reduce(
            [self._zero(structure, s) for s in structure.consumers]
        )
        constant = self._silent(structure)
        for consumer, emitted in zip(structure.consumers, emissions, strict=True):
            if emitted is None:
                constant[:] = False
                continue
            if not consumer.is_in_blocks:
                emitted = structure.by_group(emitted, consumer)
            constant &= structure.is_constant(emitted)
            if consumer.bias_variable is None:
                constant &= structure.throughout(emitted == 0)
        return ~(read_by_none | constant)

    def _carry(self, structure: Structure, stays: np.ndarray, emissions: list) -> np.ndarray:
        """Lets one group carry the constants of others that no bias can take, which go then."""
        dead = stays & self._silent(structure)
        if np.count_nonzero(dead) < 2:
            return stays
        read = self._values.read
        found = carried(structure, dead, structure.all_constants(read), emissions, read)
        if found is None:
            return stays
        for variable, value in found.values:
            self._values.write(variable, value)
        self._fold(structure, ~found.gone, emissions)
        return stays & ~found.gone

    def _silent(self, structure: Structure) -> np.ndarray:
        """The groups whose silencers are zero, an array `(groups,)`."""
        silent = np.ones(structure.groups, bool)
        for silencer in structure.silencers:
            silent &= self._zero(structure, silencer)
        return silent

    def _zero(self, structure: Structure, share) -> np.ndarray:
        value = np.moveaxis(self._values.read(share.variable), share.axis, 0)
        return structure.by_group(value == 0, share).all(axis=1)

    def _fold(self, structure: Structure, stays: np.ndarray, emissions: list) -> None:
        """Adds what removed groups still emit to the biases behind them."""
        removed = np.flatnonzero(~stays)
        if not len(removed):
            return
        for consumer, emitted in zip(structure.consumers, emissions, strict=True):
            bias = consumer.bias_variable
            if emitted is None or bias is None:
                continue
            at = structure.positions(removed, consumer)
            if not np.any(emitted[at]):
                continue
            matrix = structure.as_read_of_constants(consumer, self._values.read(consumer.variable))
            constant = np.tensordot(
                emitted[at].astype("float64"), matrix[at].astype("float64"), axes=emitted.ndim
            )
            if np.all(np.isfinite(constant)) and np.any(constant):
                before = self._values.read(bias)
                if constant.size == before.size:
                    constant = constant.reshape(before.shape)
                # Otherwise it has a value for each place, and all get the constant.
                after = before + consumer.bias_sign * constant
                self._values.write(bias, after.astype(before.dtype))

    def _silence(self, structure: Structure, groups: np.ndarray, shares) -> None:
        """Zeroes some of the shares of the groups that are marked true."""
        if not np.any(groups):
            return
        for share in shares:
            at = structure.positions(np.flatnonzero(groups), share)
            zeros = (slice(None),) * share.axis + (at,)
            self._values.silence(share.variable, zeros)


def checked_keep(keep: Mapping[str, Any], structures: Structures) -> dict[str, np.ndarray]:
    """Which groups stay, as boolean arrays.

    Args:
        keep: What was given.
        structures: The structures of the model.

    Raises:
        ValueError: If it does not fit the structures.
    """
    if not isinstance(keep, Mapping):
        raise ValueError(
            "`keep` must map names of structures to boolean arrays. "
            f"Received: keep={keep!r}. Names: {', '.join(s.name for s in structures) or 'none'}."
        )
    checked = {}
    for name, mask in keep.items():
        if name not in structures:
            raise ValueError(
                "`keep` names a structure that the model does not have. "
                f"Received: {name!r}. Names: {', '.join(s.name for s in structures) or 'none'}."
            )
        mask = np.asarray(mask)
        groups = structures[name].groups
        if mask.shape != (groups,) or mask.dtype != bool:
            raise ValueError(
                f"`keep[{name!r}]` must be a boolean array of shape ({groups},), true for the "
                f"groups that stay. Received: shape {mask.shape}, dtype {mask.dtype}."
            )
        checked[name] = mask
    return checked
