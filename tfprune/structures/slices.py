"""The share that a structure has in one variable."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from tfprune.keras_private.layers import plain_variable


@dataclass(frozen=True)
class Slices:
    """The share that a structure has in one variable: one slice for each group, along one axis.

    Args:
        layer: The layer that owns the variable.
        attribute: The attribute of `layer` that holds it, such as `"kernel"` or `"bias"`.
        axis: The axis along which the groups lie. Each group takes `shape[axis] // groups`
            consecutive positions (more than one for the query heads of a shared key and value),
            unless there are `segments`.
        role: `"producer"` if the variable makes what the group emits, `"consumer"` if it
            reads it, `"statistic"` if it only has a number for each group that no optimizer
            trains, such as a moving mean, or of which a zero silences nothing: it is cut, and
            neither penalized nor scaled.
        within: The axis of the single connections inside a group: the head size. `None` where
            a group is a single connection, as a feed-forward unit is.
        bias: For a consumer, the attribute of `layer` with the bias that is added right behind,
            into which the constants of removed groups are folded. `None` if there is none.
        bias_layer: The layer that has that attribute, if it is another one.
        bias_sign: -1 if it is subtracted, as a moving mean is.
        reads_input: Whether what a consumer multiplies is the input of `layer`, its last axes those
            of the groups, as with the kernel of a `Dense` layer; not something made inside.
        segments: Lengths of consecutive parts of the axis, in each of which all groups have their
            places one after the other, as the queries, keys and values of a fused projection do.
            `None` if the axis is one such part.
        owner: The group that each position along the axis belongs to, -1 where it belongs to none,
            as an array `(length,)`. All groups have equally many. `None` where `segments` or equal
            blocks say it. Only with `owner` may several structures share an axis.
        caller: The layer whose `call` computes with the variable, if that is not `layer`: the
            weights of a recurrent layer are in its cell, which it calls in a loop.
    """

    layer: keras.Layer
    attribute: str
    axis: int
    role: str
    within: int | None = None
    bias: str | None = None
    bias_layer: keras.Layer | None = None
    bias_sign: int = 1
    reads_input: bool = False
    segments: tuple[int, ...] | None = None
    owner: np.ndarray | None = field(default=None, compare=False, repr=False)
    caller: keras.Layer | None = None

    @property
    def is_in_blocks(self) -> bool:
        """Whether each group has one block of consecutive positions, all of the axis together."""
        return self.segments is None and self.owner is None

    def owners(self, groups: int) -> np.ndarray:
        """The group that each position along the axis belongs to, an array `(length,)`.

        It is -1 where it belongs to none.

        Args:
            groups: How many groups there are.
        """
        if self.owner is not None:
            return self.owner
        segments = self.segments or (self.variable.shape[self.axis],)
        return np.concatenate([np.repeat(np.arange(groups), n // groups) for n in segments])

    @property
    def variable(self) -> keras.Variable:
        """The variable itself, whatever is applied to it."""
        return plain_variable(self.layer, self.attribute)

    @property
    def bias_variable(self) -> keras.Variable | None:
        """The bias behind a consumer, if there is one."""
        layer = self.layer if self.bias_layer is None else self.bias_layer
        return None if self.bias is None else getattr(layer, self.bias)

    @property
    def is_matrix(self) -> bool:
        """Whether the variable multiplies, as a kernel does; a bias, which is added, does not.

        A bias has an axis for the groups and, where a group is several connections, one for those.
        Whatever has more axes is a matrix.
        """
        return len(self.variable.shape) > len(self.connection_axes)

    def input_axis(self, inputs: Any) -> int:
        """The axis of what a consumer reads along which the groups lie: its last are the kernel's.

        Args:
            inputs: The input of `layer`, a tensor.
        """
        return len(inputs.shape) - len(self.connection_axes) + self.axis

    @property
    def connection_axes(self) -> tuple[int, ...]:
        """The axes that number single connections (rows or columns) rather than groups."""
        return (self.axis,) if self.within is None else (self.axis, self.within)

    @property
    def begins_with_inputs(self) -> bool:
        """Whether the first axes of a consumer are those of what it reads, as in `Dense`."""
        return sorted(self.connection_axes) == list(range(len(self.connection_axes)))
