"""A structure: groups of weights that can leave a network together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np

from tfprune.structures.groups import Groups
from tfprune.structures.slices import Slices
from tfprune.tables import table, wrapped

Reader = Callable[[Any], np.ndarray]
"""Gives the value of a variable as an array; rebuild passes values it has already folded."""


class Structure(Groups):
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
        super().__init__(name, groups, slices)
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

    def all_constants(self, read: Reader) -> list[np.ndarray | None]:
        """As `all_emitted`, with the constants that no bias can take but another group can carry.

        Those that reach a layer behind padding, for instance, where they are none at the borders.
        """
        return self.all_emitted(read)

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

    # -- what most kinds have in common ------------------------------------------------------

    @property
    def read_as_input(self) -> bool:
        """Whether what the groups emit is the input of the layers that read it."""
        return all(s.reads_input for s in self.consumers)

    @property
    def can_differ_by_example(self) -> bool:
        """Whether each example of a batch can have other groups, as subnetworks need it."""
        return self.read_as_input

    def input_shares(self) -> Iterator[Slices]:
        """Slices with a position for each number along the last axis of their layer's input."""
        if not self.is_cut_by_shape:
            yield from (s for s in self.consumers if s.reads_input and s.within is None)

    def input_widths(
        self, groups: int, length: Callable[[Slices], int]
    ) -> Iterator[tuple[keras.Layer, int]]:
        """Layers with the width of their input in the smaller model.

        Args:
            groups: How many groups are left.
            length: From slices to the positions that are left along their axis, of which other
                structures may have taken some, too.
        """
        yield from ((share.layer, length(share)) for share in self.input_shares())

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
