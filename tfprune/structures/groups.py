"""Groups of weights: the same share of several variables for each of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops

from tfprune.structures.slices import Slices


class Groups:
    """Groups of which each has a slice of the same variables, and what follows from that alone.

    Args:
        name: What they are called.
        groups: How many there are.
        slices: The shares in each variable, producers first.
    """

    def __init__(self, name: str, groups: int, slices: tuple[Slices, ...]):
        self.name = name
        self.groups = groups
        self.slices = slices

    # -- which slices there are ----------------------------------------------------------------

    @property
    def producers(self) -> tuple[Slices, ...]:
        """The slices that make what a group emits."""
        return tuple(s for s in self.slices if s.role == "producer")

    @property
    def consumers(self) -> tuple[Slices, ...]:
        """The slices that read what a group emits."""
        return tuple(s for s in self.slices if s.role == "consumer")

    @property
    def trained(self) -> tuple[Slices, ...]:
        """The slices of weights: all but statistics."""
        return tuple(s for s in self.slices if s.role != "statistic")

    @property
    def of_single_connections(self) -> bool:
        """Whether each group is one connection, one column and one row, as a unit is."""
        return all(
            s.within is None and s.variable.shape[s.axis] == self.groups for s in self.slices
        )

    # -- how large they are --------------------------------------------------------------------

    @property
    def group_size(self) -> int:
        """Weights in one group."""
        return self._weights(1)

    @property
    def weights(self) -> int:
        """Weights in all groups, without statistics; each counts once."""
        return self._weights(self.groups)

    def _weights(self, groups: int) -> int:
        """Weights in so many groups; in a kernel with rows and columns of them these meet."""
        others: dict[int, list[int]] = {}
        for share in self.trained:
            shape = share.variable.shape
            lengths = others.setdefault(id(share.variable), list(shape))
            lengths[share.axis] -= groups * self.positions_of_a_group(share)
        sizes = {id(s.variable): math.prod(s.variable.shape) for s in self.trained}
        return sum(size - math.prod(others[key]) for key, size in sizes.items())

    def positions_of_a_group(self, share: Slices) -> int:
        """How many positions along `share.axis` belong to one group."""
        if share.owner is not None:
            return int(np.count_nonzero(share.owner >= 0)) // self.groups
        return share.variable.shape[share.axis] // self.groups

    # -- numbers of groups, and numbers for groups -----------------------------------------------

    def throughout(self, holds: np.ndarray) -> np.ndarray:
        """In which groups a condition holds for every element.

        Args:
            holds: Boolean array whose first axis is that of the groups.

        Returns:
            Boolean array `(groups,)`.
        """
        return np.all(holds.reshape(self.groups, -1), axis=1)

    def squared_norms(self) -> Any:
        """Squared Euclidean norm of each group over all its weights, a tensor `(groups,)`."""
        total = 0.0
        for share in self.trained:
            value = ops.square(ops.cast(ops.convert_to_tensor(share.variable), "float32"))
            others = [a for a in range(len(value.shape)) if a != share.axis]
            along = ops.sum(value, axis=others) if others else value
            # Small operations are what a penalty costs in a step, so none that does nothing.
            if along.shape[0] != self.groups:
                along = ops.sum(self.by_group(along, share), axis=1)
            total = total + along
        return total

    def norms(self) -> np.ndarray:
        """Euclidean norm of each group over all its weights, an array `(groups,)`."""
        return np.sqrt(ops.convert_to_numpy(self.squared_norms()))

    def spread(self, per_group: Any, share: Slices) -> Any:
        """Shapes one number for each group so that it multiplies `share.variable`.

        Args:
            per_group: Tensor or array `(groups,)`; `(batch, groups)` for numbers by example.
            share: One of `self.slices`.

        Returns:
            Tensor that broadcasts against the variable, with the batch in front.
        """
        shape = [1] * len(share.variable.shape)
        shape[share.axis] = length = share.variable.shape[share.axis]
        many = [-1] if len(per_group.shape) > 1 else []
        return ops.reshape(self._to_elements(per_group, length, share), many + shape)

    def spread_over_input(self, per_group: Any, share: Slices, inputs: Any) -> Any:
        """Shapes one number for each group so that it multiplies what a consumer reads.

        Args:
            per_group: Tensor or array `(groups,)`; `(batch, groups)` for numbers by example.
            share: One of `self.consumers`.
            inputs: The input of its layer, a tensor.

        Returns:
            Tensor that broadcasts against `inputs`.
        """
        axis = share.input_axis(inputs)
        shape = [1] * len(inputs.shape)
        shape[axis] = length = inputs.shape[axis]
        if len(per_group.shape) > 1:
            shape[0] = -1
        return ops.reshape(self._to_elements(per_group, length, share), shape)

    def _to_elements(self, per_group, length, share):
        """One number for each of `length` elements, `(..., groups, length // groups)`."""
        if share.owner is not None:
            return self._to_owned(per_group, share.owner)
        if length == self.groups:
            return per_group
        if share.segments:
            return ops.take(per_group, share.owners(self.groups), axis=-1)
        # Not `repeat`, which TensorFlow makes of a dozen operations.
        ahead = [1] * len(per_group.shape)
        return ops.tile(ops.expand_dims(per_group, -1), [*ahead, length // self.groups])

    def _to_owned(self, per_group, owner):
        """One number for each position of an axis, 1 where no group of these has it."""
        if np.all(owner >= 0):
            return ops.take(per_group, owner, axis=-1)
        ones = ops.ones_like(per_group[..., :1])
        places = np.where(owner < 0, self.groups, owner)
        return ops.take(ops.concatenate([per_group, ones], axis=-1), places, axis=-1)

    def scale(self, per_group: Any) -> None:
        """Multiplies the weights of each group, in place, by one number for each group.

        Args:
            per_group: Tensor or array `(groups,)`; 0 kills a group, 1 leaves it alone. Statistics
                are set to zero where it is 0, and stay otherwise.
        """
        per_group = ops.convert_to_tensor(per_group)
        for share in self.slices:
            variable = share.variable
            factor = ops.cast(self.spread(per_group, share), variable.dtype)
            value = ops.convert_to_tensor(variable)
            if share.role == "statistic":
                factor = ops.cast(factor != 0, variable.dtype)
            # Where, not only a product: a NaN or an infinity in a dead group must go too.
            variable.assign(ops.where(factor == 0, ops.zeros_like(value), value * factor))

    def positions(self, groups: np.ndarray, share: Slices) -> np.ndarray:
        """The positions along `share.axis` that belong to the groups with the given numbers."""
        if not share.is_in_blocks:
            return np.flatnonzero(np.isin(share.owners(self.groups), groups))
        repeats = share.variable.shape[share.axis] // self.groups
        return (np.asarray(groups)[:, None] * repeats + np.arange(repeats)).reshape(-1)

    def by_group(self, value: Any, share: Slices) -> Any:
        """The elements of a variable, or of something like it, by group.

        Args:
            value: Array or tensor whose first axis is `share.axis` of the variable.
            share: One of `self.slices`.

        Returns:
            Array or tensor `(groups, elements of a group)`.
        """
        if not share.is_in_blocks:
            owners = share.owners(self.groups)
            order = np.argsort(owners, kind="stable")[np.count_nonzero(owners < 0) :]
            is_array = isinstance(value, np.ndarray)
            value = value[order] if is_array else ops.take(value, order, axis=0)
        if isinstance(value, np.ndarray):
            return value.reshape(self.groups, -1)
        return ops.reshape(value, (self.groups, -1))
