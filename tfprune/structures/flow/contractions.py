"""Layers that sum over the positions of one axis and make new ones: dense layers, convolutions."""

from __future__ import annotations

import numpy as np
from keras import layers

from tfprune.structures.convolutions import PLAIN, SEPARABLE, TRANSPOSED
from tfprune.structures.dense import cannot_consume, cannot_produce
from tfprune.structures.flow.over_channels import over_channels
from tfprune.structures.flow.rules import register_rule

# How the channels of a grouped convolution may leave.
_WHOLE, _IN_EACH = 0, 1


@register_rule(layers.Dense, layers.EinsumDense)
def flow_dense(flow, node):
    """Reads the last axis and makes a new one."""
    layer = node.operation
    labels = flow.labels(node.input_tensors[0])
    reason = cannot_consume(layer)
    if reason is not None:
        flow.stop(node, f"it goes to {layer.name}: {reason}")
        return
    if labels[-1] is not None:
        flow.use(layer, "kernel", 0, "read", labels[-1])
    made = None
    reason = cannot_produce(layer)
    if reason is None:
        made = _made(flow, layer, -1)
    else:  # What mixes its outputs may do so along other axes too.
        for along in labels[:-1]:
            flow.keep(along, f"it goes to {layer.name}: {reason}")
    flow.set(node.outputs[0], [*labels[:-1], made] if reason is None else [None] * len(labels))


@register_rule(*PLAIN)
@over_channels
def flow_convolution(flow, layer, read):
    """Reads channels and makes new ones.

    Where they are grouped, either groups leave whole, or each group loses as many as the others: of
    what it makes, and independently of what it reads.
    """
    made = _made(flow, layer, -1)
    if layer.groups == 1:
        if read is not None:
            flow.use(layer, "kernel", -2, "read", read)
        return made
    if flow.chosen((_WHOLE, _IN_EACH)) == _IN_EACH:
        flow.join_across(made, layer.groups)
        if read is not None:
            flow.use(layer, "kernel", -2, "read", flow.join_across(read, layer.groups))
        return made
    first = flow.join_whole(made, layer.groups)
    if read is None:
        flow.keep(made, "a grouped convolution makes it of what must stay")
    else:
        flow.classes.join(np.repeat(first, len(read) // layer.groups), read)
    return made


@register_rule(*TRANSPOSED)
@over_channels
def flow_transposed(flow, layer, read):
    """As a convolution, with the axes of the kernel the other way round."""
    if read is not None:
        flow.use(layer, "kernel", -1, "read", read)
    return _made(flow, layer, -2)


@register_rule(*SEPARABLE)
@over_channels
def flow_separable(flow, layer, read):
    """A depthwise kernel rides on each channel, and a pointwise one reads what it makes."""
    if read is not None:
        flow.use(layer, "depthwise_kernel", -2, "ride", read)
        between = np.repeat(read, layer.depth_multiplier)
        flow.use(layer, "pointwise_kernel", -2, "read", between)
    return _made(flow, layer, -1, "pointwise_kernel")


def _made(flow, layer, axis, kernel="kernel"):
    """Labels what a layer makes along an axis of its kernel; its bias rides on it."""
    made = flow.use(layer, kernel, axis, "make")
    if layer.bias is not None:
        flow.use(layer, "bias", 0, "ride", made)
    return made
