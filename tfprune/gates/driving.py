"""Finds the gates in a model's layers that a fit trains in place of new ones."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import keras

from tfprune.gates.gate import Gate
from tfprune.keras_private.layers import layer_and_inner_layers


def permanent_gates(model: keras.Model) -> list[Gate]:
    """The gates that are part of a model's layers, as those of `tfprune.wrappers` are."""
    inside = layer_and_inner_layers(model)
    return [layer for layer in inside if isinstance(layer, Gate) and layer.permanent]


def drive(model: keras.Model, gates: Sequence[Gate], undo: ExitStack) -> list[Gate]:
    """Gives for each new gate the one that the model has in its layers already, if there is one.

    A gate of a layer is driven if it does the same for the same groups as the new one would. It
    gets the structure of the new gate, and its learning rate through the scale of the scores; it
    keeps its own scores. If an earlier fit has fixed it, it is trained again.

    Args:
        model: The model.
        gates: New gates, which are not applied yet.
        undo: What is to be called when the fit is over.

    Returns:
        As many gates.
    """
    there = permanent_gates(model)
    driven = []
    for new in gates:
        old = next((gate for gate in there if gate.does_the_same_as(new)), new)
        if old is not new:
            there.remove(old)
            undo.callback(old.set_structure, old.structure)
            undo.callback(old.rescale, old.score_scale)
            old.set_structure(new.structure)
            old.rescale(new.score_scale)
            old.release()
        driven.append(old)
    return driven
