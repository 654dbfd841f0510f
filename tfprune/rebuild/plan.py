"""What is removed, what stays, and which constants move into which biases."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from tfprune.copying import copy_from_config
from tfprune.keras_private.functional import is_functional, nodes_of
from tfprune.keras_private.layers import layer_and_inner_layers, own_variables
from tfprune.rebuild.deciding import checked_keep, decided
from tfprune.rebuild.values import PlannedValues
from tfprune.structures import Structure, Structures
from tfprune.structures.by_shape.guesses import axis_outside
from tfprune.structures.by_shape.padding import AtPositions
from tfprune.structures.by_shape.resizing import config_with, numbers_with
from tfprune.structures.flow.written import Written
from tfprune.structures.slices import Slices
from tfprune.structures.structure import Remainder
from tfprune.structures.transparent import Transparent


class Plan:
    """Everything a rebuild needs to know, worked out before anything is cut.

    A group is removed when its consumers no longer read it, or when what makes it is zero so that
    it emits a constant, which then moves into the bias behind it. Where no bias can take it, one
    group stays and carries the constants of all such groups.

    Args:
        structures: The structures of the model.
        keep: Structure name to boolean array `(groups,)`. A group marked false is removed as if
            all its weights were zero; of other structures, groups are whose weights are zero.
        replacements: `id` of a layer to the class, the configuration and the weights of the layer
            that takes its place.
        layers: All layers of the model. Gates are folded into all of them, also where nothing can
            be cut.
        never_empty: Names of structures of which one group always stays, if only as zeros.

    Attributes:
        values: The values of variables in the rebuilt model.
        left: Structure name to the numbers of the groups that stay.
        configs: `id` of a layer to the entries of its configuration that change.
        input_widths: `id` of a layer to the new width of its input.
        cut_layers: `id` of the layers of which some variable is cut.
        shapes: `id` of a layer that is cut by shape to the attributes and the new shapes of its
            variables.
        numbers: `id` of a layer to the numbers that it keeps, where they change with those shapes.
        groups: `id` of an attention layer that is cut by shape to the groups of heads left.
        constants: `id` of a layer to the constant it has become.
        gone: `id` of the layers that nothing reads any more.
        entered: `id` of a Functional or Sequential model to the numbers of its inputs, with their
            new widths.
        calls: `id` of a Functional model to the numbers of its calls in which something else is
            written, with what that is.
        crossed: `id` of the layers that lose groups which go from one layer made of layers into
            another.
    """

    def __init__(
        self,
        structures: Structures,
        keep: Mapping[str, Any] | None = None,
        replacements: Mapping[int, tuple[type[keras.Layer], dict, list]] | None = None,
        layers: Iterable[keras.Layer] = (),
        never_empty: Collection[str] = (),
    ):
        self.structures = structures
        self.replacements = dict(replacements or {})
        self.values = PlannedValues()
        self.configs: dict[int, dict[str, Any]] = {}
        self.input_widths: dict[int, int] = {}
        self.cut_layers: set[int] = set()
        self.shapes: dict[int, dict[str, tuple[int, ...]]] = {}
        self.numbers: dict[int, dict[str, Any]] = {}
        self.groups: dict[int, int] = {}
        self.constants: dict[int, np.ndarray] = {}
        self.gone: set[int] = set()
        self.entered: dict[int, dict[int, int]] = {}
        self.calls: dict[int, dict[int, Written]] = {}
        self.crossed: set[int] = set()
        keep = checked_keep({} if keep is None else keep, structures)
        layers = list(layers)
        self.values.fold_gates(layers)
        self.left = decided(structures, keep, never_empty, self.values)
        for structure in structures:
            self._note_sizes(structure)
        self._note_calls(layers)
        self._note_cuts()
        self._note_shapes()
        for structure in structures:
            if structure.is_padded and 0 < len(self.left[structure.name]) < structure.groups:
                self._note_padding(structure)
        # Last, when every bias has received what is folded into it.
        for structure in structures:
            self._note_remainders(structure)

    def touches(self, layer) -> bool:
        """Whether anything in a layer or in the layers inside it changes its shape or class."""
        return any(
            id(x) in self.configs
            or id(x) in self.constants
            or id(x) in self.gone
            or id(x) in self.input_widths
            or id(x) in self.cut_layers
            or id(x) in self.replacements
            or id(x) in self.shapes
            or id(x) in self.numbers
            or id(x) in self.calls
            or isinstance(x, Transparent)
            for x in layer_and_inner_layers(layer)
        )

    def _note_cuts(self) -> None:
        """Which positions of each variable stay, along every axis that a structure cuts."""
        for cut in self.structures.by_variable:
            stay: dict[int, np.ndarray] = {}
            for structure, share in cut.shares:
                gone = np.setdiff1d(np.arange(structure.groups), self.left[structure.name])
                if len(gone):
                    self.cut_layers.add(id(share.layer))
                    length = cut.variable.shape[share.axis]
                    positions = stay.setdefault(share.axis, np.ones(length, bool))
                    positions[structure.positions(gone, share)] = False
            self.values.keep_only(cut.variable, {a: np.flatnonzero(x) for a, x in stay.items()})
        for structure in self.structures:
            if len(self.left[structure.name]) < structure.groups:
                left = len(self.left[structure.name])
                for layer, width in structure.input_widths(left, self._length):
                    self.input_widths[id(layer)] = width

    def _length(self, share: Slices) -> int:
        """How many positions are left along the axis of slices."""
        return self.values.length(share.variable, share.axis)

    def _note_sizes(self, structure: Structure) -> None:
        left = self.left[structure.name]
        if len(left) == structure.groups:
            return
        if structure.crosses:
            self.crossed.update(id(layer) for layer in structure.layers())
        for model, number, each in structure.entered:
            self.entered.setdefault(id(model), {})[number] = each * len(left)
        for layer in structure.layers():
            changes = structure.resized_config(layer, len(left))
            if changes:
                self.configs.setdefault(id(layer), {}).update(changes)

    def _note_calls(self, layers: list[keras.Layer]) -> None:
        """What is written in calls, of which several structures may have changed the sizes."""
        gone: dict[int, tuple[Any, list[np.ndarray]]] = {}
        for structure in self.structures:
            if structure.flow is not None:
                own = np.delete(structure.classes, self.left[structure.name])
                gone.setdefault(id(structure.flow), (structure.flow, []))[1].append(own)
        written: dict[int, Written] = {}
        for flow, classes in gone.values():
            for operation, changes in flow.rewritten(np.concatenate(classes)):
                if isinstance(operation, keras.Layer):
                    self.configs.setdefault(id(operation), {}).update(changes)
                else:
                    written[id(operation)] = changes
        for model in filter(is_functional, layers):
            calls = enumerate(nodes_of(model))
            changed = {i: written[id(n.operation)] for i, n in calls if id(n.operation) in written}
            if changed:
                self.calls[id(model)] = changed

    def _note_shapes(self) -> None:
        """What the layers become that are cut by shape, when all cuts of their variables are known.

        A structure of another kind may cut the same layer along another axis.
        """
        by_shape = [
            s
            for s in self.structures
            if s.is_cut_by_shape and not s.is_padded and 0 < len(self.left[s.name]) < s.groups
        ]
        layers = {id(x.layer): x.layer for s in by_shape for x in s.slices}
        for share in (x for s in self.structures for x in s.slices if id(x.layer) in layers):
            shape = self.values.value(share.variable).shape
            self.shapes.setdefault(id(share.layer), {})[share.attribute] = shape
        for key, layer in layers.items():
            self.numbers[key] = numbers_with(layer, self.shapes[key])
        for structure in by_shape:
            left = len(self.left[structure.name])
            for layer in structure.layers():
                self.groups[id(layer)] = left
                self.numbers.setdefault(id(layer), {})
            for layer, numbers in structure.resized_numbers(left):
                self.numbers.setdefault(id(layer), {}).update(numbers)

    def _note_padding(self, structure: Structure) -> None:
        """What stands in the place of the layers of a structure of which zeros take the place."""
        for share in structure.slices:
            if share.attribute != "kernel":
                continue
            layer, kernel = share.layer, self.values.value(share.variable)
            small = copy_from_config(layer, config_with(layer, {"kernel": kernel.shape}))
            positions = structure.positions(self.left[structure.name], share)
            padded = AtPositions(
                small,
                axis_outside(share),
                positions.tolist(),
                share.variable.shape[share.axis],
                "inputs" if share.role == "consumer" else "outputs",
                name=layer.name,
                dtype=layer.dtype_policy,
            )
            weights = [self.values.value(variable) for variable in own_variables(layer)]
            self.replacements[id(layer)] = AtPositions, padded.get_config(), weights

    def _note_remainders(self, structure: Structure) -> None:
        if len(self.left[structure.name]):
            return
        ends = structure.remainders()
        for end in ends:
            constant = self._bias_of(end)
            if end.activation is not None:
                activated = end.activation(ops.cast(constant[None], "float32"))
                constant = ops.convert_to_numpy(activated)[0]
            if constant.size:
                self.constants[id(end.layer)] = constant
            else:  # The units that it would make are gone as well.
                self.gone.add(id(end.layer))
        read = {id(end.layer) for end in ends}
        self.gone.update(id(x) for x in structure.layers() if id(x) not in read)

    def _bias_of(self, end: Remainder) -> np.ndarray:
        if end.bias is not None:
            return self.values.value(end.bias)
        if end.kernel is None:
            return np.zeros(end.shape, "float32")
        # Its outputs are units of another structure, which may have lost some of them.
        return np.zeros(self.values.value(end.kernel).shape[-len(end.shape) :], "float32")
