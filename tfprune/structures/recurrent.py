"""Keras's recurrent layers, whose weights are in cells."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import keras
from keras import layers, ops

from tfprune.structures.overriding import reason_of

RECURRENT = (layers.LSTM, layers.GRU, layers.SimpleRNN)
CELLS = (layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell)


def cells_of(operation: Any) -> tuple[keras.Layer, ...]:
    """The cells that hold the weights of a recurrent layer, of both directions if there are two.

    None for any other operation.
    """
    if isinstance(operation, layers.Bidirectional):
        both = (operation.forward_layer, operation.backward_layer)
        return tuple(x.cell for x in both) if all(isinstance(x, RECURRENT) for x in both) else ()
    return (operation.cell,) if isinstance(operation, RECURRENT) else ()


def weight_layers(operation: Any) -> tuple[Any, ...]:
    """The layers that hold the weights which a call works with: cells, or the layer itself."""
    return cells_of(operation) or (operation,)


def around_cell(operation: Any, cell: keras.Layer) -> list[keras.Layer]:
    """The layers that a cell is in: one of both directions, if it is, and the one that calls it."""
    if not isinstance(operation, layers.Bidirectional):
        return [operation]
    both = (operation.forward_layer, operation.backward_layer)
    return [operation, next(layer for layer in both if layer.cell is cell)]


def with_units(layer: keras.Layer, units: int) -> dict[str, Any]:
    """What changes in the configuration of a recurrent layer, or of a cell, with fewer units.

    Args:
        layer: The layer.
        units: How many units each direction has.
    """
    if not isinstance(layer, layers.Bidirectional):
        return {"units": units}
    changes = {}
    config = layer.get_config()
    for name in ("layer", "backward_layer"):
        if config.get(name) is not None:
            changes[name] = deepcopy(config[name])
            changes[name]["config"]["units"] = units
            changes[name].pop("build_config", None)  # Which says how wide its kernels were.
    return changes


def why_whole(operation: Any) -> str | None:
    """Why the units of a recurrent layer cannot be told apart, `None` if they can."""
    cells = cells_of(operation)
    if not cells:
        return "it is not made of layers of Keras whose units are known"
    for layer in (x for cell in cells for x in (*around_cell(operation, cell), cell)):
        bases = (*RECURRENT, *CELLS, layers.Bidirectional)
        reason = reason_of(layer, next(cls for cls in bases if isinstance(layer, cls)))
        if reason is not None:
            return reason
    if operation.stateful:
        return "it is stateful: it begins with the states that it had at the end"
    if len({cell.units for cell in cells}) > 1:
        return "its directions have different numbers of units"
    return None


def is_zero_at_zero(cell: keras.Layer) -> bool:
    """Whether a unit that is given zeros alone stays at zero."""
    return not float(cell.activation(ops.zeros((1, 1)))[0, 0])
