"""What is removed, what stays, and which constants move into which biases."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from tfprune.copying import copy_from_config
from tfprune.keras_private.functional import is_functional, nodes_of
from tfprune.keras_private.layers import layer_and_inner_layers, own_variables, plain_variable
from tfprune.keras_private.variables import view
from tfprune.overlay.folding import folded
from tfprune.overlay.transforms import transforms_of
from tfprune.rebuild.carrying import carried
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
        self._never_empty = set(never_empty)
        self.replacements = dict(replacements or {})
        self.left: dict[str, np.ndarray] = {}
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
        # Values are kept where something was folded into them, which most have not; what is zeroed
        # of the others is noted: a plan is to be small beside the model.
        self._values: dict[int, np.ndarray] = {}
        self._silenced: dict[int, list[tuple]] = {}  # what indexes the zeros
        self._cuts: dict[int, dict[int, np.ndarray]] = {}
        keep = checked_keep({} if keep is None else keep, structures)
        layers = list(layers)
        self._fold_gates(layers)
        self._decide_all(keep)
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

    def read(self, variable) -> np.ndarray:
        """The value of a variable with what has been folded into it, not yet cut.

        It may be the memory of the variable, and is not to be written to.
        """
        value = self._values.get(id(variable))
        value = view(variable) if value is None else value
        if id(variable) in self._silenced:
            value = np.array(value)
            for zeros in self._silenced[id(variable)]:
                value[zeros] = 0
        return value

    def _write(self, variable, value: np.ndarray) -> None:
        self._values[id(variable)] = value
        self._silenced.pop(id(variable), None)  # It was read without them.

    def value(self, variable) -> np.ndarray:
        """The value of a variable in the rebuilt model."""
        value = self.read(variable)
        for axis, positions in self._cuts.get(id(variable), {}).items():
            value = np.take(value, positions, axis=axis)
        return value

    def changes(self, variable) -> bool:
        """Whether a variable has another value in the rebuilt model."""
        key = id(variable)
        return key in self._values or key in self._silenced or bool(self._cuts.get(key))

    def hand_over(self, source, target) -> None:
        """Gives a variable of the rebuilt model its value and its trainable flag."""
        target.assign(self.value(source))
        if target.trainable != source.trainable:
            target.trainable = source.trainable

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

    def _fold_gates(self, layers) -> None:
        """Multiplies the gates over a variable into it, each once however many structures cut it.

        A kernel between two structures of a chain has the gates of both.
        """
        for layer in {id(x): x for x in layers}.values():
            for attribute, transforms in transforms_of(layer).items():
                variable = plain_variable(layer, attribute)
                value = folded(self.read(variable), transforms)
                self._write(variable, ops.convert_to_numpy(value))

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
            self._cuts[id(cut.variable)] = {a: np.flatnonzero(x) for a, x in stay.items()}
        for structure in self.structures:
            if len(self.left[structure.name]) < structure.groups:
                left = len(self.left[structure.name])
                for layer, width in structure.input_widths(left, self._length):
                    self.input_widths[id(layer)] = width

    def _length(self, share: Slices) -> int:
        """How many positions are left along the axis of slices."""
        return len(self._cuts[id(share.variable)][share.axis])

    def _decide_all(self, keep: Mapping[str, np.ndarray]) -> None:
        """Decides until nothing more goes: a group may be read by groups alone that have gone."""
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
            emissions = structure.all_emitted(self.read)
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
        found = carried(structure, dead, structure.all_constants(self.read), emissions, self.read)
        if found is None:
            return stays
        for variable, value in found.values:
            self._write(variable, value)
        self._fold(structure, ~found.gone, emissions)
        return stays & ~found.gone

    def _silent(self, structure: Structure) -> np.ndarray:
        """The groups whose silencers are zero, an array `(groups,)`."""
        silent = np.ones(structure.groups, bool)
        for silencer in structure.silencers:
            silent &= self._zero(structure, silencer)
        return silent

    def _zero(self, structure: Structure, share) -> np.ndarray:
        value = np.moveaxis(self.read(share.variable), share.axis, 0)
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
            matrix = structure.as_read_of_constants(consumer, self.read(consumer.variable))
            constant = np.tensordot(
                emitted[at].astype("float64"), matrix[at].astype("float64"), axes=emitted.ndim
            )
            if np.all(np.isfinite(constant)) and np.any(constant):
                before = self.read(bias)
                if constant.size == before.size:
                    constant = constant.reshape(before.shape)
                # Otherwise it has a value for each place, and all get the constant.
                after = before + consumer.bias_sign * constant
                self._write(bias, after.astype(before.dtype))

    def _silence(self, structure: Structure, groups: np.ndarray, shares) -> None:
        """Zeroes some of the shares of the groups that are marked true."""
        if not np.any(groups):
            return
        for share in shares:
            at = structure.positions(np.flatnonzero(groups), share)
            zeros = (slice(None),) * share.axis + (at,)
            if np.any(self.read(share.variable)[zeros]):
                self._silenced.setdefault(id(share.variable), []).append(zeros)

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
            shape = self.value(share.variable).shape
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
            layer, kernel = share.layer, self.value(share.variable)
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
            weights = [self.value(variable) for variable in own_variables(layer)]
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
            return self.value(end.bias)
        if end.kernel is None:
            return np.zeros(end.shape, "float32")
        # Its outputs are units of another structure, which may have lost some of them.
        return np.zeros(self.value(end.kernel).shape[-len(end.shape) :], "float32")


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
