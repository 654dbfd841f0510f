"""Gives a model gates, and takes them away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from tfprune.gates.gate import Gate
from tfprune.model_parts import add_part, forget_compiled, remove_part

_ATTRIBUTE = "pruning_gates"


class Pressure(NamedTuple):
    """The numbers that penalties on gates read and a callback changes meanwhile.

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
    """The gates of a model, a sequence.

    The model tracks it, so that the gates are trained, and saved by `BackupAndRestore`. It is not
    part of the model's configuration: a file saved meanwhile loads without gates.
    """

    def __init__(self, gates: Sequence[Gate]):
        super().__init__(name=_ATTRIBUTE, dtype="float32")
        self.gates = list(gates)
        self._pressure = self.add_weight(
            name="pressure", shape=(len(Pressure()),), initializer="zeros", trainable=False
        )
        self.in_use = False  # By a callback.
        self.built = True

    @property
    def pressure(self) -> Pressure:
        """What penalties read, scalar tensors."""
        return Pressure(*(self._pressure[i] for i in range(len(Pressure()))))

    def press(self, pressure: Pressure) -> None:
        """Sets what penalties read."""
        self._pressure.assign(np.array(pressure, "float32"))

    @property
    def subnetworks(self):
        """What tells examples apart, or `None`."""
        return self.gates[0].subnetworks if self.gates else None

    def __len__(self):
        return len(self.gates)

    def __getitem__(self, index):
        return self.gates[index]

    def __iter__(self):
        return iter(self.gates)

    def call(self, inputs):
        """Passes its input on; it is never called."""
        return inputs


def attach(model: keras.Model, gates: Sequence[Gate]) -> Gates:
    """Lays gates over a model in place.

    The layers, the configuration and the weights stay what they are; only what the layers compute
    is gated. Attach before `compile`, or let a callback of `tfprune.callbacks` do it, which makes
    the optimizer learn of the new variables.

    Args:
        model: A built model.
        gates: Gates over structures of this model.

    Returns:
        The gates as the layer that the model now tracks.

    Raises:
        ValueError: If the model has gates already, or only some of them tell examples apart.

    Example: see `HardConcrete`.
    """
    if gates_of(model) is not None:
        raise ValueError("The model has gates already; `tfprune.gates.detach` takes them off.")
    if len({id(gate.subnetworks) for gate in gates}) > 1:
        raise ValueError("All `gates` of a model must have the same `subnetworks`, or none.")
    held = Gates(gates)
    add_part(model, _ATTRIBUTE, held)
    for gate in held:
        gate.lay()
    if held.subnetworks is not None:
        held.subnetworks.listen(model)
    forget_compiled(model)
    return held


def detach(model: keras.Model, fold: bool = False) -> None:
    """Takes the gates off a model; one that has none is left alone.

    Args:
        model: The model.
        fold: Multiplies the gates into the weights, so that the outputs stay. Without it the
            weights are as training has left them.
    """
    held = gates_of(model)
    if held is None:
        return
    for gate in held:
        gate.fold() if fold else gate.lift()
    if held.subnetworks is not None:
        held.subnetworks.ignore(model)
    remove_part(model, _ATTRIBUTE)
    forget_compiled(model)


def gates_of(model: keras.Model) -> Gates | None:
    """The gates of a model, or `None`."""
    return getattr(model, _ATTRIBUTE, None)
