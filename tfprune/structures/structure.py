"""A structure: groups of weights that can leave a network together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from tfprune.structures.slices import Slices
from tfprune.tables import table, wrapped

Reader = Callable[[Any], np.ndarray]
"""Gives the value of a variable as an array; rebuild passes values it has already folded."""


class Structure:
    """A family of groups of weights, each of which can leave the network whole.

    A unit of a feed-forward pair is a group: its column of the first kernel, its bias, its row of
    the second kernel. A head of an attention layer is another. One subclass describes one kind;
    it says which slices of which variables make up the groups, what a group emits once the weights
    that make it are zero, and which configuration a layer has when fewer groups are left.

    Args:
        name: The path of the first layer, unique in the model, such as `"encoder_0_ffn_in"`.
        groups: How many groups there are.
        slices: The shares in each variable, producers first.

    Attributes:
        kind: The kind's name, as callbacks and tables use it: `"ffn"`, `"heads"`.
        masked: Whether the first layer is called on a tensor that carries a Keras mask.
        takes_masks: Whether any tensor carries one that it is given; attention takes it off.
        least: Groups that always stay, if only as zeros.
        crosses: Whether the groups go from one layer made of layers into another, so that these
            return or take fewer than before.
        entered: Functional and Sequential models that are given groups, with the number of the
            input and how many numbers it holds for each group.
        is_cut_by_shape: Whether its layers are cut by giving their variables smaller shapes, and
            not made anew from a configuration.
        is_padded: Whether zeros stand where groups were, since what is between the layers that make
            them and those that read them needs all of them.
        works_by_kernels: Whether all products that the groups take part in are of the variables
            that they have slices of, not of what two layers emit, as in attention.
        tensors: The symbolic tensors whose last axes the groups lie along, by `id`, for a kind that
            is found in a graph. Without them, groups are not followed into layers made of layers.
        flow: The `Flow` in which it was found, for a kind that is found so.
        classes: The classes of its groups there, an array `(groups,)`.
    """

    kind: str = ""
    is_cut_by_shape: ClassVar[bool] = False
    is_padded = False
    works_by_kernels = False
    least = 0
    masked = False
    takes_masks = False
    crosses = False
    flow: Any = None
    classes: np.ndarray

    def __init__(self, name: str, groups: int, slices: tuple[Slices, ...]):
        self.name = name
        self.groups = groups
        self.slices = slices
        self.tensors: dict[int, Any] = {}
        self.entered: list[tuple[keras.Layer, int, int]] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.groups} groups of {self.group_size}>"

    def __str__(self) -> str:
        """A table of the variables: their shapes, the axis of the groups, what a group has of each.

        Example:

        >>> import keras, tfprune
        >>> model = keras.Sequential([
        ...     keras.Input((4,)),
        ...     keras.layers.Dense(8, "relu", name="hidden"),
        ...     keras.layers.Dense(2, name="out"),
        ... ])
        >>> print(tfprune.find_structures(model)["hidden"])
        hidden: 8 groups of 7 weights, kind "ffn"
        ┏━━━━━━━━━━━━━━━┳━━━━━━━━━━┳━━━━━━━━┳━━━━━━┳━━━━━━━━━┓
        ┃ variable      ┃ role     ┃  shape ┃ axis ┃ a group ┃
        ┡━━━━━━━━━━━━━━━╇━━━━━━━━━━╇━━━━━━━━╇━━━━━━╇━━━━━━━━━┩
        │ hidden/kernel │ producer │ (4, 8) │    1 │  (4, 1) │
        │ hidden/bias   │ producer │   (8,) │    0 │    (1,) │
        │ out/kernel    │ consumer │ (8, 2) │    0 │  (1, 2) │
        └───────────────┴──────────┴────────┴──────┴─────────┘
        """
        rows = []
        for share in self.slices:
            shape = tuple(share.variable.shape)
            group = list(shape)
            group[share.axis] = self.positions_of_a_group(share)
            place = f"{share.layer.name}/{share.attribute}"
            rows.append([place, share.role, str(shape), share.axis, str(tuple(group))])
        title = (
            f'{self.name}: {self.groups} groups of {self.group_size} weights, kind "{self.kind}"'
        )
        columns = ["variable", "role", "shape", "axis", "a group"]
        return f"{wrapped(title)}\n{table(columns, rows, text_columns=2, paths=True)}"

    # -- what a kind must say -----------------------------------------------------------------

    def emitted(self, consumer: Slices, read: Reader) -> np.ndarray | None:
        """What reaches `consumer` from each group whose producer kernels are zero.

        Args:
            consumer: One of `self.consumers`.
            read: Gives the value of a variable.

        Returns:
            Array of the consumer's input axes, `consumer.variable.shape[:k]`, or `None` if it is
            not a constant even then.
        """
        raise NotImplementedError

    def all_emitted(self, read: Reader) -> list[np.ndarray | None]:
        """What `emitted` returns for each of `self.consumers`."""
        return [self.emitted(consumer, read) for consumer in self.consumers]

    def is_constant(self, emitted: np.ndarray) -> np.ndarray:
        """Which groups emit the same at every position, once their silencers are zero.

        Args:
            emitted: What `emitted` returned.

        Returns:
            Boolean array `(groups,)`.
        """
        return self.throughout(np.isfinite(emitted))

    def resized_config(self, layer: keras.Layer, groups: int) -> dict[str, Any]:
        """The entries of `layer.get_config()` that change when `groups` groups are left."""
        raise NotImplementedError

    def resized_numbers(self, groups: int) -> list[tuple[keras.Layer, dict[str, Any]]]:
        """Numbers that layers keep and that change when `groups` groups are left.

        For structures that are cut by shape, whose layers are made as they were and then cut.

        Returns:
            Layers, with their attributes and the new numbers.
        """
        return []

    def remainders(self) -> list[Remainder]:
        """What is left of the layers that read the groups when no group is left."""
        raise NotImplementedError

    def cannot_be_cut(self, calls: Sequence[Any]) -> str | None:
        """Why the layer cannot be pruned, given how it is called, or `None` if it can.

        Args:
            calls: The Keras nodes of its calls.
        """
        return None

    @property
    def silencers(self) -> tuple[Slices, ...]:
        """The matrices that, once zero, make a group emit a constant: those of all producers."""
        return tuple(s for s in self.producers if s.is_matrix)

    # -- what follows from the slices ---------------------------------------------------------

    def throughout(self, holds: np.ndarray) -> np.ndarray:
        """In which groups a condition holds for every element.

        Args:
            holds: Boolean array whose first axis is that of the groups.

        Returns:
            Boolean array `(groups,)`.
        """
        return np.all(holds.reshape(self.groups, -1), axis=1)

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
    def read_as_input(self) -> bool:
        """Whether what the groups emit is the input of the layers that read it."""
        return all(s.reads_input for s in self.consumers)

    @property
    def of_single_connections(self) -> bool:
        """Whether each group is one connection, one column and one row, as a unit is."""
        return all(
            s.within is None and s.variable.shape[s.axis] == self.groups for s in self.slices
        )

    @property
    def can_differ_by_example(self) -> bool:
        """Whether each example of a batch can have other groups, as subnetworks need it."""
        return self.read_as_input

    @property
    def group_size(self) -> int:
        """Weights in one group."""
        return self.weights // self.groups

    @property
    def weights(self) -> int:
        """Weights in all groups, without statistics."""
        return self.groups * sum(
            int(np.prod(s.variable.shape))
            // s.variable.shape[s.axis]
            * self.positions_of_a_group(s)
            for s in self.trained
        )

    def positions_of_a_group(self, share: Slices) -> int:
        """How many positions along `share.axis` belong to one group."""
        if share.owner is not None:
            return int(np.count_nonzero(share.owner >= 0)) // self.groups
        return share.variable.shape[share.axis] // self.groups

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

    def input_shares(self) -> Iterator[Slices]:
        """Slices with a position for each number along the last axis of their layer's input."""
        if not self.is_cut_by_shape:
            yield from (s for s in self.consumers if s.reads_input and s.within is None)

    def other_input_widths(self, groups: int) -> list[tuple[keras.Layer, int]]:
        """Layers with the width of their input when `groups` groups are left, without a slice."""
        return []

    def as_read_of_constants(self, consumer: Slices, value: np.ndarray) -> np.ndarray:
        """What a consumer's variable multiplies a constant by: the axes of `emitted` come first.

        Args:
            consumer: One of `self.consumers`.
            value: The value of its variable.
        """
        return value

    def layers(self) -> Iterator[keras.Layer]:
        """The layers whose weights the groups are made of, each once."""
        seen: set[int] = set()
        for share in self.slices:
            if id(share.layer) not in seen:
                seen.add(id(share.layer))
                yield share.layer


def checked_structure(value: Any, name: str = "structure") -> Structure:
    """A structure, if it is one.

    Args:
        value: What was given.
        name: The argument's name, for the message.

    Raises:
        ValueError: If it is none.
    """
    if not isinstance(value, Structure):
        raise ValueError(
            f"`{name}` must be a structure, such as `tfprune.find_structures(model)[0]`. Received: "
            f"{name}={value!r}"
        )
    return value


@dataclass(frozen=True)
class Remainder:
    """What is left of a layer whose last group has gone: a constant.

    Args:
        layer: The layer.
        bias: Its output bias, or `None` if it has none.
        shape: The shape of one position of its output.
        activation: What it applies to the bias, or `None`.
        kernel: The variable whose last axes are those of `shape`, where other structures may cut
            them too, or `None`.
    """

    layer: keras.Layer
    bias: keras.Variable | None
    shape: tuple[int, ...]
    activation: Callable | None = None
    kernel: keras.Variable | None = None
