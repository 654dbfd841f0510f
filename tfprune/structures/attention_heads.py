"""Heads of Keras attention layers."""

from __future__ import annotations

import keras
import numpy as np

from tfprune.keras_private.attention import (
    cached_attention_classes,
    dropout_of,
    output_shape_of,
    projections,
)
from tfprune.structures.registry import register_layer_kind
from tfprune.structures.slices import Slices
from tfprune.structures.structure import Remainder, Structure


class AttentionHeads(Structure):
    """The heads of one `MultiHeadAttention` or `GroupQueryAttention` layer.

    A group is what must leave together: one key and value head with all the query heads that
    share it. Attention weights sum to one, so a head whose value kernel is zero emits its value
    bias whatever it attends to. But a padded position of a sequence with a Keras mask attends to
    nothing: there all weights are zero, and a value bias does not come through. With dropout Keras
    does the same wherever a mask leaves nothing to attend to, an explicit one too.
    """

    kind = "heads"

    def __init__(self, name: str, layer: keras.Layer, groups: int):
        self.layer = layer
        self.parts = parts = projections(layer)
        slices = []
        for projection in (parts.query, parts.key, parts.value, parts.gate):
            if projection is None:
                continue
            slices.append(Slices(projection, "kernel", 1, "producer", within=2))
            if projection.bias is not None:
                slices.append(Slices(projection, "bias", 0, "producer", within=1))
        slices.append(
            Slices(parts.output, "kernel", 0, "consumer", within=1, bias="bias", reads_input=True)
        )
        super().__init__(name, groups, tuple(slices))

    @property
    def silencers(self) -> tuple[Slices, ...]:
        """The kernels that must be zero for a head to emit a constant: the value's alone."""
        return tuple(s for s in self.producers if s.layer is self.parts.value and s.is_matrix)

    def emitted(self, consumer, read):
        """The value bias, for every query head that reads it."""
        heads, head_dim = consumer.variable.shape[:2]
        value = self.parts.value
        if value.bias is None:
            return np.zeros((heads, head_dim), "float32")
        bias = read(value.bias)
        if self.parts.gate is not None and np.any(bias):
            return None
        return np.repeat(bias, heads // len(bias), axis=0)

    def is_constant(self, emitted):
        """All groups, or where a mask may leave nothing to attend to those without a value bias."""
        constant = super().is_constant(emitted)
        if self.masked or dropout_of(self.layer):
            constant &= self.throughout(emitted == 0)
        return constant

    def resized_config(self, layer, groups):
        """Fewer heads; the size of a head stays."""
        if layer is not self.layer:
            return {}
        if isinstance(layer, keras.layers.GroupQueryAttention):
            return {
                "num_key_value_heads": groups,
                "num_query_heads": groups * layer.num_repeats,
            }
        config = {"num_heads": groups}
        if output_shape_of(layer) is None:
            # Unset, it would follow the query's width; say it, so that nothing depends on that.
            config["output_shape"] = list(self.parts.output.kernel.shape[2:])
        return config

    def remainders(self):
        """The bias of the output projection."""
        output = self.parts.output
        shape = tuple(output.kernel.shape[2:])
        return [Remainder(self.layer, output.bias, shape)]

    def cannot_be_cut(self, calls):
        """A call that returns its attention scores shows every head."""
        if any(len(node.outputs) > 1 for node in calls):
            return "its attention scores are used, which show every head"
        return None

    def layers(self):
        """The attention layer, which makes its projections itself."""
        yield self.layer


@register_layer_kind(keras.layers.MultiHeadAttention, same=cached_attention_classes)
def describe_multi_head_attention(layer, name):
    """Heads of `keras.layers.MultiHeadAttention`, and of KerasHub's `CachedMultiHeadAttention`."""
    if len(projections(layer).query.kernel.shape) != 3:
        raise ValueError("its projections do not have the shape (width, heads, head size)")
    return AttentionHeads(name, layer, layer.num_heads)


@register_layer_kind(keras.layers.GroupQueryAttention)
def describe_grouped_query_attention(layer, name):
    """Whole groups of `keras.layers.GroupQueryAttention`: a key-value head and its queries."""
    return AttentionHeads(name, layer, layer.num_key_value_heads)
