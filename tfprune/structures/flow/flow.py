"""Which positions of which axes of which variables leave a graph together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np

from tfprune.keras_private.layers import plain_variable
from tfprune.structures.dense import describe
from tfprune.structures.flow.labels import Classes, Labels, places
from tfprune.structures.flow.moves import commutes, flow_moves
from tfprune.structures.flow.rules import rule_of
from tfprune.structures.flow.unregistered import flow_unregistered
from tfprune.structures.graph import Graph

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

    Attributes:
        uses: The axes of variables that were met.
        families: The groups that can leave.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.classes = Classes()
        self.uses: list[Use] = []
        self._of_tensor: dict[int, AxisLabels] = {}
        self._of_axis: dict[tuple[int, int], Labels] = {}
        self._added: list[Labels] = []
        for node in graph.nodes:
            if node.is_input:
                continue
            if any(map(graph.is_masked, [*node.input_tensors, *node.outputs])):
                self.stop(node, "it carries a mask")
            else:
                (rule_of(node.operation) or flow_unregistered)(self, node)
        for tensor in graph.outputs:
            for labels in self.labels(tensor):
                self.keep(labels, "it is an output of the model")
        self.classes.solved()
        self._keep_makers_whole()
        self._keep_where_sizes_are_written()
        self.families = self._families()

    # -- what rules call --------------------------------------------------------------------------

    def labels(self, tensor: Any) -> AxisLabels:
        """The labels of a tensor, for each axis."""
        return self._of_tensor.get(id(tensor), [None] * len(tensor.shape))

    def set(self, tensor: Any, labels: Sequence[Labels | None]) -> None:
        """Labels a tensor."""
        self._of_tensor[id(tensor)] = list(labels)

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

    def add(self, labels: Labels) -> None:
        """Says that an addition joins what several layers make."""
        self._added.append(labels)

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

    def of_use(self, use: Use) -> np.ndarray:
        """The class of each position along the axis of a use."""
        return self.classes.of(self._labels_of(use))

    def _labels_of(self, use: Use) -> Labels:
        return self._of_axis[id(use.variable), use.axis]

    def nodes_of(self, family: Family) -> list[Any]:
        """The calls that are given positions of a family or give them, in their order."""
        return [self.graph.nodes[number] for number in self._nodes_of_class[family.classes[0]]]

    @cached_property
    def _nodes_of_class(self) -> dict[int, list[int]]:
        """For each class the numbers of the calls where it is met."""
        found: dict[int, list[int]] = {}
        for number, node in enumerate(self.graph.nodes):
            live = [
                labels
                for tensor in [*node.input_tensors, *node.outputs]
                for labels in self.labels(tensor)
                if labels is not None
            ]
            if live:
                for one in np.unique(self.classes.of(np.concatenate(live))).tolist():
                    found.setdefault(one, []).append(number)
        return found

    def reason(self, use: Use) -> str | None:
        """Why some positions of a use must stay, `None` if all may leave."""
        return self.classes.reason(self._labels_of(use))

    def _signatures(self) -> dict[int, tuple[tuple[int, int], ...]]:
        """For each class that may leave, the uses it has, with the number of positions in each."""
        found: dict[int, list[tuple[int, int]]] = {}
        for number, use in enumerate(self.uses):
            classes, counts = np.unique(self.of_use(use), return_counts=True)
            for one, count in zip(classes.tolist(), counts.tolist(), strict=True):
                if not self.classes.must_stay(one):
                    found.setdefault(one, []).append((number, count))
        return {one: tuple(uses) for one, uses in found.items()}

    def _keep_makers_whole(self) -> None:
        """Keeps what one layer makes for several families: its width would be theirs together."""
        signatures = self._signatures()
        for use in self.uses:
            if use.role != "make" and not use.sizes:
                continue
            labels = self._labels_of(use)
            there = {signatures.get(number) for number in self.classes.of(labels).tolist()}
            if len(there) > 1 and self.classes.reason(labels) is None:
                self.keep(labels, "its outputs go different ways")
        self.classes.solved()

    def _keep_where_sizes_are_written(self) -> None:
        """Keeps what a call moves that does not do so alike when half of the groups are gone."""
        gone = np.concatenate([np.zeros(0, int), *(f.classes[::2] for f in self._families())])
        for node in self.graph.nodes:
            moves = not node.is_input and rule_of(node.operation) is flow_moves
            # What a `Reshape` layer is told is rewritten.
            if not moves or isinstance(node.operation, keras.layers.Reshape):
                continue
            tensors = [*node.input_tensors, *node.outputs]
            live = [labels for t in tensors for labels in self.labels(t) if labels is not None]
            if not any(np.isin(self.classes.of(labels), gone).any() for labels in live):
                continue
            if not commutes(self, node, gone):
                for labels in live:
                    self.keep(
                        labels, f"{describe(node.operation)} has sizes or places written in it"
                    )
        self.classes.solved()

    def _families(self) -> list[Family]:
        alike: dict[tuple[tuple[int, int], ...], list[int]] = {}
        for one, signature in self._signatures().items():
            alike.setdefault(signature, []).append(one)
        added = {number for labels in self._added for number in self.classes.of(labels).tolist()}
        families = []
        for signature, members in alike.items():
            uses = [self.uses[number] for number, _ in signature]
            if not {"make", "read"} <= {use.role for use in uses}:
                continue
            order = np.array(sorted(members))
            owners = [(use, places(order, self.of_use(use))) for use in uses]
            is_joined = bool(added & set(members))
            families.append(Family(len(order), tuple(owners), is_joined, order))
        return families
