"""Which positions of which axes of which variables leave a graph together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
from keras import layers

from tfprune.keras_private.layers import plain_variable
from tfprune.structures.dense import describe
from tfprune.structures.flow.each import flow_each
from tfprune.structures.flow.labels import Classes, Labels, places
from tfprune.structures.flow.moves import commutes, flow_moves
from tfprune.structures.flow.rules import rule_of
from tfprune.structures.flow.unregistered import flow_unregistered
from tfprune.structures.flow.written import Written, can_be_rewritten, rewritten
from tfprune.structures.graph import Graph
from tfprune.structures.recurrent import RECURRENT

# What is masked is to them as any other position, or to be passed over, with states as they are.
_UNDER_MASKS = (layers.Dense, layers.EinsumDense, layers.Bidirectional, *RECURRENT)

AxisLabels = list[Labels | None]
"""For each axis of a tensor its labels, `None` where nothing that leaves lies along it."""


@dataclass(frozen=True)
class Use:
    """An axis of a variable whose positions may leave.

    Args:
        layer: The layer that owns the variable.
        attribute: The attribute of `layer` that holds it.
        axis: The axis, counted from the front.
        role: `"make"`: the layer sums over other axes, and makes what lies along this one.
            `"read"`: it sums over this one. `"ride"`: it has a weight for each position.
            `"statistic"`: likewise, a number that is not trained, or of which a zero silences
            nothing.
        sizes: The entries of the layer's configuration that count the positions, or parts of
            them, beside those that follow from the class.
    """

    layer: keras.Layer
    attribute: str
    axis: int
    role: str
    sizes: tuple[str, ...] = ()

    @property
    def variable(self) -> keras.Variable:
        """The variable itself."""
        return plain_variable(self.layer, self.attribute)


@dataclass(frozen=True)
class Family:
    """Groups of positions that are alike: each has as many in each axis of a variable.

    Args:
        groups: How many groups there are.
        owners: Each use, with the group that each position along its axis belongs to, or -1.
        is_joined: Whether an addition joins what several layers make, as a residual stream does.
        classes: The classes of labels, one for each group.
    """

    groups: int
    owners: tuple[tuple[Use, np.ndarray], ...]
    is_joined: bool
    classes: np.ndarray


class Flow:
    """Follows positions through the calls of a graph, in their order.

    Each position along an axis has a label, and what an operation does to positions is done to
    labels. Labels that must leave together are joined.

    Args:
        graph: The graph.
        choice: Which of several ways is taken, the first or another one: which axis is followed
            where what lies along one comes to lie along several, as units laid out as heads and
            their sizes do; how the channels of grouped convolutions leave.

    Attributes:
        uses: The axes of variables that were met.
        choices: Among how many ways there was a choice.
        unproven: The calls of which it is unknown whether they still fit when positions have gone:
            sizes are written in them, in the `call` of a layer that may have worked them out.
        families: The groups that can leave.
    """

    def __init__(self, graph: Graph, choice: int = 0):
        self.graph = graph
        self.choices = 1
        self.unproven: list[Any] = []
        self._choice = choice
        self.classes = Classes()
        self.uses: list[Use] = []
        self._of_tensor: dict[int, AxisLabels] = {}
        self._of_axis: dict[tuple[int, int], Labels] = {}
        self._added: list[Labels] = []
        self._calls_of_axis: dict[tuple[int, int], set[int]] = {}
        for number, node in enumerate(graph.nodes):
            if node.is_input:
                continue
            self._call = number
            masked = any(map(graph.is_masked, [*node.input_tensors, *node.outputs]))
            rule = rule_of(node.operation) or flow_unregistered
            if masked and not _fits_under_masks(node.operation, rule):
                self.stop(node, "it carries a mask")
            else:
                rule(self, node)
        for tensor in graph.outputs:
            for labels in self.labels(tensor):
                self.keep(labels, "its output is an output of the model")
        self._keep_what_not_all_calls_use()
        self.classes.solved()
        self._keep_makers_whole()
        self._keep_where_sizes_are_written()
        self.families = self._families()

    # -- what rules call --------------------------------------------------------------------------

    def labels(self, tensor: Any) -> AxisLabels:
        """The labels of a tensor, for each axis."""
        return self._of_tensor.get(id(tensor), [None] * len(tensor.shape))

    def live_axes(self, node: Any) -> list[int]:
        """The axes, counted from the last, along which positions of an input may leave."""
        return sorted(
            {
                axis
                for tensor in node.input_tensors
                for axis, labels in enumerate(self.labels(tensor), -len(tensor.shape))
                if labels is not None
            }
        )

    def set(self, tensor: Any, labels: Sequence[Labels | None]) -> None:
        """Labels a tensor."""
        self._of_tensor[id(tensor)] = list(labels)

    def chosen(self, ways: Sequence[int]) -> int:
        """The one that is taken of several ways."""
        self.choices = max(self.choices, len(ways))
        return ways[min(self._choice, len(ways) - 1)]

    def keep(self, labels: Labels | None, reason: str) -> None:
        """Says that positions must stay, if there are any."""
        if labels is not None:
            self.classes.keep(labels, reason)

    def join(self, one: Labels | None, other: Labels | None, reason: str) -> Labels | None:
        """Says that positions leave together, or stay if one side must.

        Args:
            one: Labels.
            other: As many.
            reason: Why they must stay where one side is `None`.

        Returns:
            One of the two, `None` if one is.
        """
        if one is None or other is None:
            self.keep(one, reason)
            self.keep(other, reason)
            return None
        self.classes.join(one, other)
        return one

    def join_whole(self, labels: Labels, parts: int) -> Labels:
        """Says that each of so many equal parts of an axis leaves whole.

        Args:
            labels: The labels along the axis.
            parts: How many parts there are.

        Returns:
            The first label of each part.
        """
        first = labels.reshape(parts, -1)[:, 0]
        self.classes.join(np.repeat(first, len(labels) // parts), labels)
        return first

    def join_across(self, labels: Labels, parts: int) -> Labels:
        """Says that the positions at the same place of equal parts of an axis leave together.

        Args:
            labels: The labels along the axis.
            parts: How many parts there are.

        Returns:
            The labels of the first part.
        """
        places = labels.reshape(parts, -1).T
        return self.join_whole(places.reshape(-1), len(places))

    def add(self, joined: Sequence[Labels | None]) -> None:
        """Says that an addition joins what several layers make, of which some may have to stay."""
        self._added += [labels for labels in joined if labels is not None]

    def stop(self, node: Any, reason: str) -> None:
        """Says that whatever a call is given must stay, and so what it makes."""
        for tensor in node.input_tensors:
            for labels in self.labels(tensor):
                self.keep(labels, reason)
        for tensor in node.outputs:
            self.set(tensor, [None] * len(tensor.shape))

    def use(
        self,
        layer: keras.Layer,
        attribute: str,
        axis: int,
        role: str,
        labels: Labels | None = None,
        sizes: tuple[str, ...] = (),
    ) -> Labels:
        """Labels an axis of a variable.

        Args:
            layer: The layer.
            attribute: The attribute that holds the variable.
            axis: The axis; it may be counted from the end.
            role: As in `Use`.
            labels: Those that its positions must have; new ones by default.
            sizes: As in `Use`.

        Returns:
            The labels: the same at each call of the layer.
        """
        variable = plain_variable(layer, attribute)
        axis %= len(variable.shape)
        self._calls_of_axis.setdefault((id(variable), axis), set()).add(self._call)
        known = self._of_axis.get((id(variable), axis))
        if known is not None:
            if labels is not None:
                self.classes.join(known, labels)
            return known
        if labels is None:
            labels = self.classes.new(variable.shape[axis])
        self._of_axis[id(variable), axis] = labels
        self.uses.append(Use(layer, attribute, axis, role, sizes))
        return labels

    # -- what comes of it -------------------------------------------------------------------------

    @property
    def weights(self) -> int:
        """How many weights can leave along one axis of each variable; a group of each stays."""
        most: dict[int, int] = {}
        for family in self.families:
            for use, owner in family.owners:
                size = math.prod(np.delete(use.variable.shape, use.axis))
                going = np.count_nonzero(owner >= 0) // family.groups * (family.groups - 1)
                most[id(use.variable)] = max(most.get(id(use.variable), 0), going * size)
        return sum(most.values())

    def of_use(self, use: Use) -> np.ndarray:
        """The class of each position along the axis of a use."""
        return self.classes.of(self._labels_of(use))

    def _labels_of(self, use: Use) -> Labels:
        return self._of_axis[id(use.variable), use.axis]

    def nodes_of(self, family: Family) -> list[Any]:
        """The calls that are given positions of a family or give them, in their order."""
        return [self.graph.nodes[number] for number in self._nodes_of_first[family.classes[0]]]

    @cached_property
    def _nodes_of_first(self) -> dict[int, list[int]]:
        """For the first class of each family the numbers of the calls where it is met."""
        firsts = np.array([family.classes[0] for family in self.families])
        is_first = np.zeros(len(self.classes.stay()), bool)
        is_first[firsts] = True
        found: dict[int, list[int]] = {}
        for number, node in enumerate(self.graph.nodes):
            live = self._live(node)
            if live:
                classes = self.classes.of(np.concatenate(live))
                for one in np.unique(classes[is_first[classes]]).tolist():
                    found.setdefault(one, []).append(number)
        return found

    def _live(self, node: Any) -> list[Labels]:
        """The labels of what a call is given and gives."""
        tensors = [*node.input_tensors, *node.outputs]
        return [labels for t in tensors for labels in self.labels(t) if labels is not None]

    def unproven_calls(self, family: Family) -> list[Any]:
        """The calls that a family goes through of which it is unknown whether they will fit."""
        return [
            node
            for node in self.unproven
            if any(np.isin(self.classes.of(x), family.classes).any() for x in self._live(node))
        ]

    def rewritten(self, gone: np.ndarray) -> Iterator[tuple[Any, Written]]:
        """What is to be written in calls where some positions are gone.

        Args:
            gone: Classes of labels, of all families.

        Yields:
            Layers and operations, with what changes in their calls.
        """
        for node in self._moving(gone):
            if can_be_rewritten(self, node) and (changes := rewritten(self, node, gone)):
                yield node.operation, changes

    def end(self, use: Use) -> str:
        """Where the positions of a use end, as in `SkippedLayer`."""
        own = self.of_use(use)
        leaving = [x for t in self.graph.outputs for x in self.labels(t) if x is not None]
        for end, places_of in (("residual", self._added), ("output", leaving)):
            if any(np.isin(self.classes.of(labels), own).any() for labels in places_of):
                return end
        return ""

    def reason(self, use: Use) -> str | None:
        """Why some positions of a use must stay, `None` if all may leave."""
        return self.classes.reason(self._labels_of(use))

    @cached_property
    def _met(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each use the classes in it, and the number of positions of each."""
        return [np.unique(self.of_use(use), return_counts=True) for use in self.uses]

    def _signatures(self) -> np.ndarray:
        """For each class the number of its signature, 0 for those that must stay.

        Classes have one signature if they have as many positions in each use.
        """
        stay = self.classes.stay()
        signatures, last = np.zeros(len(stay), int), 0
        for classes, counts in self._met:  # Those that were alike so far are told apart here.
            alike = signatures[classes] * (counts.max(initial=0) + 1) + counts
            _, numbers = np.unique(alike, return_inverse=True)
            signatures[classes] = last + 1 + numbers
            last += len(classes)
        signatures[stay] = 0
        return signatures

    def _keep_what_not_all_calls_use(self) -> None:
        """Keeps axes of layers that are also given what must stay, or something not followed."""
        calls_of: dict[int, set[int]] = {}
        for number, node in enumerate(self.graph.nodes):
            calls_of.setdefault(id(node.operation), set()).add(number)
        for axis, calls in self._calls_of_axis.items():
            operations = [self.graph.nodes[number].operation for number in calls]
            for operation in operations:
                if not calls_of[id(operation)] <= calls:
                    reason = f"{operation.name} is also given what must stay"
                    self.keep(self._of_axis[axis], reason)

    def _keep_makers_whole(self) -> None:
        """Keeps what one layer makes for several families: its width would be theirs together."""
        signatures = self._signatures()
        for use, (classes, _) in zip(self.uses, self._met, strict=True):
            if use.role != "make" and not use.sizes:
                continue
            if np.count_nonzero(np.unique(signatures[classes])) > 1:
                self.keep(self._labels_of(use), "its outputs go different ways")
        self.classes.solved()

    def _keep_where_sizes_are_written(self) -> None:
        """Keeps what a call moves that does not do so alike when half of the groups are gone."""
        gone = np.concatenate([np.zeros(0, int), *(f.classes[::2] for f in self._families())])
        given: dict[int, list[list[int]]] = {}
        for node in self._moving(gone):
            changes = rewritten(self, node, gone) if can_be_rewritten(self, node) else {}
            # What is called at several places has the same written in it at each.
            classes = [self.classes.of(labels).tolist() for labels in self._live(node)]
            same = not changes or given.setdefault(id(node.operation), classes) == classes
            if same and commutes(self, node, gone, changes):
                continue
            if self.graph.can_be_run and not self.graph.is_functional(node):
                self.unproven.append(node)
                continue
            for labels in self._live(node):
                self.keep(labels, f"{describe(node.operation)} has sizes or places written in it")
        self.classes.solved()

    def _moving(self, gone: np.ndarray) -> Iterator[Any]:
        """The calls that move positions which are gone, and in which sizes may be written."""
        for node in self.graph.nodes:
            # Layers have none written in them, but for `Reshape`.
            is_layer = isinstance(node.operation, keras.Layer)
            if node.is_input or (is_layer and not can_be_rewritten(self, node)):
                continue
            if rule_of(node.operation) is flow_moves and any(
                np.isin(self.classes.of(labels), gone).any() for labels in self._live(node)
            ):
                yield node

    def _families(self) -> list[Family]:
        signatures = self._signatures()
        uses_of: dict[int, list[int]] = {}
        for number, (classes, _) in enumerate(self._met):
            for one in np.unique(signatures[classes]).tolist():
                uses_of.setdefault(one, []).append(number)
        uses_of.pop(0, None)
        added = np.zeros(len(signatures), bool)
        for labels in self._added:
            added[self.classes.of(labels)] = True
        families = []
        for one, numbers in uses_of.items():
            uses = [self.uses[number] for number in numbers]
            if not {"make", "read"} <= {use.role for use in uses}:
                continue
            order = np.flatnonzero(signatures == one)
            owners = [(use, places(order, self.of_use(use))) for use in uses]
            is_joined = bool(added[order].any())
            families.append((numbers[0], Family(len(order), tuple(owners), is_joined, order)))
        # In the order of the layers, and of the positions in one layer.
        families.sort(key=lambda found: (found[0], found[1].classes[0]))
        return [family for _, family in families]


def _fits_under_masks(operation: Any, rule: Callable) -> bool:
    """Whether masks change nothing of how positions flow through a call."""
    is_layer = isinstance(operation, keras.Layer)  # Operations know of no masks.
    return not is_layer or rule is flow_each or isinstance(operation, _UNDER_MASKS)
