"""What all convolutions have in common: channels come last, other axes are mixed."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import keras

from tfprune.structures.dense import function_name
from tfprune.structures.elementwise import is_elementwise_function
from tfprune.structures.flow.labels import Labels
from tfprune.structures.flow.rules import Rule

Connect = Callable[[Any, keras.Layer, Labels | None], Labels | None]
"""From a `Flow`, a layer and the labels of the channels that it reads to those that it makes."""


def over_channels(connect: Connect) -> Rule:
    """Makes a rule for convolutions of a function that labels their kernels."""

    @wraps(connect)
    def rule(flow: Any, node: Any) -> None:
        layer = node.operation
        reason = why_not_by_channel(layer)
        if reason is not None:
            flow.stop(node, f"it goes to {layer.name}: {reason}")
            return
        *others, read = flow.labels(node.input_tensors[0])
        for along in others:
            flow.keep(along, f"{layer.name} mixes it")
        made = connect(flow, layer, read)
        if not is_elementwise_function(layer.activation):
            flow.keep(made, f"its activation {function_name(layer.activation)} mixes channels")
        flow.set(node.outputs[0], [*[None] * len(others), made])

    return rule


def why_not_by_channel(layer: keras.Layer) -> str | None:
    """Why the channels of a convolution cannot be told apart, if so."""
    if layer.data_format != "channels_last":
        return "its channels come first"
    if getattr(layer, "lora_enabled", False):
        return "it has LoRA weights; merge them first"
    return None
