"""Attaches gates to a model, and detaches them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any, NamedTuple

import keras
import numpy as np

from tfprune.arguments import boolean, built_model, keras_model
from tfprune.gates.gate import Gate
from tfprune.gates.subnetworks import Subnetworks
from tfprune.keras_private.fits import forget_compiled
from tfprune.model_parts import add_part, parts_of, remove_part

_ATTRIBUTE = "pruning_gates"


class PenaltyValues(NamedTuple):
    """The numbers that penalties on gates read and a callback changes during training.

    Args:
        strength: Of the penalty on the size.
        limit: The size that is aimed at.
        multiplier: Of the distance to the limit, in a Lagrangian.
        span: The range of sizes, the unit of that distance.
        diversity: Strength of the penalty on what subnetworks share.
    """

    strength: Any = 0.0
    limit: Any = 0.0
    multiplier: Any = 0.0
    span: Any = 1.0
    diversity: Any = 0.0


class Gates(keras.Layer):
    """Gates that were attached to a model together, a sequence.

    The model tracks it, so that the gates are trained, and saved by `BackupAndRestore`. It is not
    part of the model's configuration: a file saved during training loads without gates.

    Attributes:
        left_by_fit: Whether a callback has left them on the model when its fit ended.
    """

    left_by_fit = False

    def __init__(self, gates: Sequence[Gate], name: str = _ATTRIBUTE):
        super().__init__(name=name, dtype="float32")
        self.gates = list(gates)
        self._penalty_values = self.add_weight(
            name="penalty_values",
            shape=(len(PenaltyValues()),),
            initializer="zeros",
            trainable=False,
        )
        self.built = True

    @property
    def penalty_values(self) -> PenaltyValues:
        """What penalties read, scalar tensors."""
        return PenaltyValues(*(self._penalty_values[i] for i in range(len(PenaltyValues()))))

    def set_penalty_values(self, values: PenaltyValues) -> None:
        """Sets what penalties read."""
        self._penalty_values.assign(np.array(values, "float32"))

    @property
    def subnetworks(self) -> Subnetworks | None:
        """What tells examples apart, or `None`."""
        return self.gates[0].subnetworks if self.gates else None

    def __len__(self):
        return len(self.gates)

    def __getitem__(self, index):
        return self.gates[index]

    def __iter__(self):
        return iter(self.gates)

    @property
    def attached(self) -> list[Gate]:
        """The gates that come and go with these, without those that are part of a layer."""
        return [gate for gate in self.gates if not gate.permanent]

    def apply(self) -> None:
        """Applies each gate to the weights it is over."""
        for gate in self.attached:
            gate.apply()

    def remove(self) -> None:
        """Removes each gate; the weights are as training has left them."""
        for gate in self.attached:
            gate.remove()

    def fold(self) -> None:
        """Multiplies each gate into the weights and removes it."""
        for gate in self.attached:
            gate.fold()

    def call(self, inputs: Any) -> Any:
        """Passes its input on; it is never called."""
        return inputs


def attach(model: keras.Model, gates: Sequence[Gate]) -> Gates:
    """Applies gates to a model in place.

    The layers, the configuration and the weights stay what they are; only what the layers compute
    is gated. Attach before `compile`, or let a callback of `tfprune.callbacks` do it, which makes
    the optimizer learn of the new variables.

    Args:
        model: A built model.
        gates: Gates over structures of this model that have none yet.

    Returns:
        The gates as a layer that the model now tracks.

    Raises:
        ValueError: If one of the structures has a gate already, is another model's, or has two
            gates over the same weight, or only some of the gates tell examples apart.

    Example: see `HardConcrete`.
    """
    _check_gates(built_model("model", model), gates)
    before = gates_of(model)
    taken = {gate.structure.name for gate in before} & {gate.structure.name for gate in gates}
    if taken:
        raise ValueError(
            f"The model has gates over {', '.join(map(repr, sorted(taken)))} already; "
            "`tfprune.gates.detach` removes them."
        )
    if len({id(gate.subnetworks) for gate in [*before, *gates]}) > 1:
        raise ValueError("All `gates` of a model must have the same `subnetworks`, or none.")
    held = Gates(gates, _free_name(model))
    add_part(model, held.name, held)
    held.apply()
    if held.subnetworks is not None and not before:
        held.subnetworks.wrap_call(model)
    forget_compiled(model)
    return held


def _check_gates(model, gates):
    if not isinstance(gates, Iterable) or not all(isinstance(gate, Gate) for gate in gates):
        raise ValueError(
            "`gates` must be a list of gates of `tfprune.gates`, such as "
            "[HardConcrete(s) for s in tfprune.find_structures(model)]. Received: "
            f"gates={gates!r}"
        )
    own = {id(variable) for variable in model.variables}
    gated: set[tuple[int, int, str]] = set()
    for gate in gates:
        weights = {(id(share.variable), share.axis, gate.structure.name) for share in gate.shares}
        if not all(variable in own for variable, _, _ in weights):
            raise ValueError(
                f"`gates` must be over structures of `model`. Received: one over "
                f"{gate.structure.name!r}, whose weights {model.name!r} does not have; it may be a "
                "copy of the model that the structures were found in."
            )
        if weights & gated:
            raise ValueError(f"`gates` holds two over {gate.structure.name!r}. Give it one.")
        gated |= weights


def detach(model: keras.Model, fold: bool = False, gates: Gates | None = None) -> None:
    """Removes gates from a model; one that has none is not changed.

    Args:
        model: The model.
        fold: Multiplies the gates into the weights, so that the outputs stay. Without it the
            weights are as training has left them.
        gates: What `attach` returned; by default all gates of the model.

    Raises:
        ValueError: If `gates` is not what `attach` returned, or is applied to another model.
    """
    boolean("fold", fold)
    if gates is not None and not isinstance(gates, Gates):
        raise ValueError(
            "`gates` must be what `tfprune.gates.attach` returned, or None for all. Received: "
            f"gates={gates!r}"
        )
    is_elsewhere = gates is not None and any(gate.is_applied for gate in gates.attached)
    if is_elsewhere and not any(held is gates for held in containers(model)):
        raise ValueError(
            f"`gates` must be those of `model`. Received: some that {model.name!r} does not have"
        )
    for held in reversed(containers(model)):
        if gates is not None and held is not gates:
            continue
        if fold:
            held.fold()
        else:
            held.remove()
        remove_part(model, held.name)
        if held.subnetworks is not None and not containers(model):
            held.subnetworks.unwrap_call(model)
        forget_compiled(model)


def gates_of(model: keras.Model) -> list[Gate]:
    """The gates that are attached to a model, in the order in which they were.

    Raises:
        ValueError: If `model` is no model.
    """
    return [gate for held in containers(model) for gate in held]


def _free_name(model) -> str:
    taken = {held.name for held in containers(model)}
    names = (_ATTRIBUTE if not number else f"{_ATTRIBUTE}_{number}" for number in count())
    return next(name for name in names if name not in taken)


def containers(model: keras.Model) -> list[Gates]:
    """What `attach` has given a model, in that order."""
    keras_model("model", model)
    return [part for name, part in parts_of(model) if name.startswith(_ATTRIBUTE)]
