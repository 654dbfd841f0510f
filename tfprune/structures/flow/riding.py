"""Layers with a weight for each position: normalizations, a depthwise kernel."""

from __future__ import annotations

import numpy as np
from keras import layers

from tfprune.structures.convolutions import DEPTHWISE
from tfprune.structures.dense import describe
from tfprune.structures.flow.over_channels import over_channels
from tfprune.structures.flow.rules import register_rule


@register_rule(layers.BatchNormalization)
def flow_batch_normalization(flow, node):
    """Four numbers ride on each position of an axis; other axes are left alone."""
    layer = node.operation
    labels = flow.labels(node.input_tensors[0])
    axis = layer.axis[0] if isinstance(layer.axis, (list, tuple)) else layer.axis
    along = labels[axis]
    if along is not None:
        for attribute in ("gamma", "beta"):
            if getattr(layer, attribute) is not None:
                flow.use(layer, attribute, 0, "ride", along)
        for attribute in ("moving_mean", "moving_variance"):
            flow.use(layer, attribute, 0, "statistic", along)
    flow.set(node.outputs[0], labels)


@register_rule(layers.GroupNormalization)
def flow_group_normalization(flow, node):
    """The positions of a group leave together: it is normalized as one."""
    layer = node.operation
    labels = flow.labels(node.input_tensors[0])
    axis = layer.axis % len(labels)
    for other, along in enumerate(labels):
        if other != axis:
            flow.keep(along, f"{layer.name} mixes it")
    along = labels[axis]
    present = [name for name in ("gamma", "beta") if getattr(layer, name) is not None]
    if along is not None and (layer.groups == 1 or not present):
        flow.keep(along, f"it goes to {describe(layer)}, which normalizes all together")
        along = None
    elif along is not None:
        flow.join_whole(along, layer.groups)
        for attribute in present:
            flow.use(layer, attribute, 0, "ride", along, ("groups",))
    flow.set(node.outputs[0], [along if n == axis else None for n in range(len(labels))])


@register_rule(layers.PReLU)
def flow_prelu(flow, node):
    """A slope rides on each position of the axes that do not share them."""
    labels = flow.labels(node.input_tensors[0])
    slopes = node.operation.alpha.shape
    for axis, along in enumerate(labels):
        if along is not None and slopes[axis - 1] > 1:
            flow.use(node.operation, "alpha", axis - 1, "ride", along)
    flow.set(node.outputs[0], labels)


@register_rule(*DEPTHWISE)
@over_channels
def flow_depthwise(flow, layer, read):
    """A kernel, or several, ride on each channel."""
    if read is None:
        return None
    flow.use(layer, "kernel", -2, "ride", read)
    made = np.repeat(read, layer.depth_multiplier)
    if layer.bias is not None:
        flow.use(layer, "bias", 0, "ride", made)
    return made
