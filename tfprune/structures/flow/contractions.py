"""Layers that sum over the positions of one axis and make new ones: dense layers, convolutions."""

from __future__ import annotations

import numpy as np
from keras import layers

from tfprune.structures.dense import cannot_consume, cannot_produce
from tfprune.structures.elementwise import is_elementwise_function
from tfprune.structures.flow.riding import along_channels
from tfprune.structures.flow.rules import register_rule


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


@register_rule(layers.Conv1D, layers.Conv2D, layers.Conv3D)
def flow_convolution(flow, node):
    """Reads channels and makes new ones; where they are grouped, groups leave whole."""
    layer = node.operation
    labels = flow.labels(node.input_tensors[0])
    reason = _why_not(layer)
    if reason is not None:
        flow.stop(node, f"it goes to {layer.name}: {reason}")
        return
    read = along_channels(flow, node, labels)
    made = _made(flow, layer, -1)
    if layer.groups == 1:
        if read is not None:
            flow.use(layer, "kernel", -2, "read", read)
    else:
        first = made.reshape(layer.groups, -1)[:, 0]
        flow.classes.join(np.repeat(first, len(made) // layer.groups), made)
        if read is None:
            flow.keep(made, "a grouped convolution makes it of what must stay")
        else:
            flow.classes.join(np.repeat(first, len(read) // layer.groups), read)
    flow.set(node.outputs[0], [*[None] * (len(labels) - 1), _as_activated(flow, layer, made)])


@register_rule(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
def flow_transposed(flow, node):
    """As a convolution, with the axes of the kernel the other way round."""
    layer = node.operation
    labels = flow.labels(node.input_tensors[0])
    reason = _why_not(layer)
    if reason is not None:
        flow.stop(node, f"it goes to {layer.name}: {reason}")
        return
    read = along_channels(flow, node, labels)
    if read is not None:
        flow.use(layer, "kernel", -1, "read", read)
    made = _made(flow, layer, -2)
    flow.set(node.outputs[0], [*[None] * (len(labels) - 1), _as_activated(flow, layer, made)])


@register_rule(layers.SeparableConv1D, layers.SeparableConv2D)
def flow_separable(flow, node):
    """A depthwise kernel rides on each channel, and a pointwise one reads what it makes."""
    layer = node.operation
    labels = flow.labels(node.input_tensors[0])
    reason = _why_not(layer)
    if reason is not None:
        flow.stop(node, f"it goes to {layer.name}: {reason}")
        return
    read = along_channels(flow, node, labels)
    if read is not None:
        flow.use(layer, "depthwise_kernel", -2, "ride", read)
        between = np.repeat(read, layer.depth_multiplier)
        flow.use(layer, "pointwise_kernel", -2, "read", between)
    made = flow.use(layer, "pointwise_kernel", -1, "make")
    if layer.bias is not None:
        flow.use(layer, "bias", 0, "ride", made)
    flow.set(node.outputs[0], [*[None] * (len(labels) - 1), _as_activated(flow, layer, made)])


def _made(flow, layer, axis):
    """Labels what a layer makes along an axis of its kernel; its bias rides on it."""
    made = flow.use(layer, "kernel", axis, "make")
    if layer.bias is not None:
        flow.use(layer, "bias", 0, "ride", made)
    return made


def _why_not(layer):
    """Why the channels of a convolution cannot be told apart, if so."""
    if layer.data_format != "channels_last":
        return "its channels come first"
    if getattr(layer, "lora_enabled", False):
        return "it has LoRA weights; merge them first"
    return None


def _as_activated(flow, layer, made):
    """Keeps what a convolution makes where its activation mixes it."""
    if not is_elementwise_function(layer.activation):
        name = getattr(layer.activation, "__name__", type(layer.activation).__name__)
        flow.keep(made, f"its activation {name} mixes channels")
    return made
