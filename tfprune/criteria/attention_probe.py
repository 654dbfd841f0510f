"""Reads the probabilities of attention layers while a model runs."""

from __future__ import annotations

import math
from contextlib import ExitStack
from functools import partial
from typing import Any

import keras
from keras import ops

from tfprune.keras_private.layers import inner_layers
from tfprune.keras_private.softmax import has_softmax, is_attention, softmax_hooked
from tfprune.structures import find_structures


class AttentionProbe(keras.Model):
    """A model whose outputs are the confidences of the attention layers of another.

    Args:
        model: A built model.

    Attributes:
        layers_by_name: Name to attention layer whose softmax can be read: the name of its
            structure, or its path where it has none.
        skipped: Name to the reason why a layer cannot be read.
        is_context: Name to whether the layer attends to something else than its query, as
            cross-attention does; known once the layer was called.
    """

    def __init__(self, model):
        super().__init__(name="probe")
        self.model = model
        heads = [s for s in find_structures(model) if s.kind == "heads"]
        names = {id(getattr(s, "layer", s.slices[0].layer)): s.name for s in heads}
        self.layers_by_name, self.skipped, self.is_context = {}, {}, {}
        for layer in inner_layers(model):
            name = names.get(id(layer), layer.path)
            if has_softmax(layer):
                self.layers_by_name[name] = layer
            elif is_attention(layer) or id(layer) in names:
                self.skipped[name] = f"{type(layer).__name__} has no softmax that can be read"
        self.built = True

    def call(self, inputs):
        """Runs the model in inference mode.

        Returns:
            Name of a layer to a list with one tuple for each call of it: the largest probability
            of each head and query `(B, H, T)`, which queries count `(B, T)`, and whether any of
            them may attend to a later position `(B,)`.
        """
        calls: dict[str, list[Any]] = {}
        with ExitStack() as stack:
            for name, layer in self.layers_by_name.items():
                record = partial(self._record, calls, name)
                stack.enter_context(softmax_hooked(layer, record))
            self.model(inputs, training=False)
        for name in set(self.layers_by_name) - set(calls):
            self.skipped[name] = "it was not called, or a fused kernel computed its softmax"
        return calls

    def _record(self, calls, name, is_context, probabilities, mask):
        self.is_context[name] = is_context
        calls.setdefault(name, []).append(_summary(probabilities, mask, is_context))


def _summary(probabilities, mask, is_context):
    """One call of a layer, as `AttentionProbe.call` returns it."""
    shape = ops.shape(probabilities)
    axes = (len(shape) - 2) // 2  # Of queries, and of keys: more than one in an image.
    queries, keys = math.prod(shape[2 : 2 + axes]), math.prod(shape[2 + axes :])
    probabilities = ops.reshape(probabilities, (shape[0], shape[1], queries, keys))
    largest = ops.max(probabilities, axis=-1)
    if mask is None:
        return largest, ops.ones((shape[0], queries), "bool"), ops.ones((shape[0],), "bool")
    mask = ops.cast(mask, "bool")
    while len(mask.shape) < len(shape):
        mask = ops.expand_dims(mask, -2 * axes - 1)
    mask = ops.broadcast_to(ops.any(mask, axis=1), (shape[0], *shape[2:]))
    mask = ops.reshape(mask, (shape[0], queries, keys))
    counts = ops.any(mask, axis=-1)
    query, key = ops.expand_dims(ops.arange(queries), 1), ops.expand_dims(ops.arange(keys), 0)
    if not is_context:
        counts = counts & ops.any(mask & (query == key), axis=-1)
    return largest, counts, ops.any(mask & (query < key), axis=(1, 2))
