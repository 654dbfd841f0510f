"""Recurrent layers: units that read their own states, and inputs of other layers."""

from __future__ import annotations

import numpy as np
from keras import layers, tree

from tfprune.structures.dense import describe
from tfprune.structures.flow.rules import register_rule
from tfprune.structures.recurrent import CELLS, RECURRENT, cells_of, why_whole


@register_rule(*RECURRENT, layers.Bidirectional)
def flow_recurrent(flow, node):
    """The units of a layer leave with the states that they begin with.

    Of two directions the units at the same place leave together, so that what is left is a layer
    of two directions again.
    """
    layer = node.operation
    masks = {id(x) for x in tree.flatten(_masks(node))}
    sequence, *states = (x for x in node.input_tensors if id(x) not in masks)
    reason = why_whole(layer)
    if reason is not None:
        flow.stop(node, f"it goes to {describe(layer)}: {reason}")
        return
    *others, read = flow.labels(sequence)
    for along in others:
        flow.keep(along, f"{layer.name} mixes it")
    made = [_made(flow, cell, read) for cell in cells_of(layer)]
    flow.classes.join(made[0], made[-1])
    for state in states:
        flow.join(made[0], flow.labels(state)[-1], "its states begin as what must stay")
    for tensor in node.outputs:
        width = tensor.shape[-1]
        along = made[0] if width == len(made[0]) else np.concatenate(made)
        flow.set(tensor, [*[None] * (len(tensor.shape) - 1), along])


@register_rule(*CELLS)
def flow_cell(flow, node):
    """A cell that is called by itself is not followed: what carries its states is unknown."""
    flow.stop(node, f"it goes to {describe(node.operation)}")


def _made(flow, cell, read):
    """Labels the weights of a cell; returns the labels of its units."""
    along = flow.use(cell, "kernel", -1, "make")
    flow.use(cell, "recurrent_kernel", -1, "make", along)
    if cell.bias is not None:
        flow.use(cell, "bias", -1, "ride", along)
    units = flow.join_across(along, len(along) // cell.units)  # Of each gate.
    flow.use(cell, "recurrent_kernel", 0, "read", units)
    if read is not None:
        flow.use(cell, "kernel", 0, "read", read)
    return units


def _masks(node):
    """The masks that a call is given."""
    args, kwargs = node.arguments.args, node.arguments.kwargs
    return [*args[2:3], kwargs.get("mask")]  # `call(sequences, initial_state, mask)`.
