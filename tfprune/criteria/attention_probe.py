"""Reads the probabilities of attention layers while a model runs."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from functools import partial
from inspect import signature
from typing import Any

import keras
from keras import ops

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
        names = {id(s.layer): s.name for s in find_structures(model) if s.kind == "heads"}
        self.layers_by_name, self.skipped, self.is_context = {}, {}, {}
        for layer in model._flatten_layers(include_self=False):
            name = names.get(id(layer), layer.path)
            if hasattr(layer, "_masked_softmax"):
                self.layers_by_name[name] = layer
            elif hasattr(layer, "_compute_attention"):
                self.skipped[name] = f"{type(layer).__name__} has no softmax that can be read"
        self.built = True

    def call(self, inputs):
        """Runs the model in inference mode.

        Returns:
            Name of a layer to a list with one tuple for each call of it: the largest probability
            of each head and query `(B, H, T)`, which queries count `(B, T)`, and whether any of
            them may attend to a later position `(B,)`.
        """
        calls = {}
        with ExitStack() as stack:
            for name, layer in self.layers_by_name.items():
                record = partial(self._record, calls, name)
                stack.enter_context(_softmax_hooked(layer, record))
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


@contextmanager
def _softmax_hooked(layer: keras.Layer, record: Callable[[bool, Any, Any], None]):
    """Passes the results of a layer's softmax to a function, and switches fused kernels off.

    Args:
        layer: An attention layer of Keras or KerasHub with a `_masked_softmax`.
        record: Called as `record(is_context, probabilities, mask)`.
    """
    own_call, own_softmax = layer.call, layer._masked_softmax
    is_context = False

    def call(*args, **kwargs):
        nonlocal is_context
        query = args[0] if args else kwargs.get("query")
        value = args[1] if len(args) > 1 else kwargs.get("value", query)
        is_context = value is not query
        return own_call(*args, **kwargs)

    def softmax(scores, attention_mask=None, **kwargs):
        probabilities = own_softmax(scores, attention_mask=attention_mask, **kwargs)
        record(is_context, probabilities, attention_mask)
        return probabilities

    # Cast one by one, query and value would no longer be the same tensor; projections cast anyway.
    values = {"call": call, "_masked_softmax": softmax, "autocast": False}
    values |= _scores_returned(layer)
    if hasattr(layer, "_flash_attention"):
        values["_flash_attention"] = False
    # KerasHub's layers ask a function of their module whether there is a fused kernel.
    module = sys.modules[type(layer).__module__]
    fused = [name for name in ("fused_attention_op_available",) if hasattr(module, name)]
    with _replaced(layer, values), _replaced(module, dict.fromkeys(fused, lambda: False)):
        yield


def _scores_returned(layer):
    """What makes a layer return its scores: otherwise Keras's own layers skip their softmax."""
    own_compute = getattr(layer, "_compute_attention", None)
    if own_compute is None:
        return {}
    if "_return_attention_scores" in vars(layer):  # `GroupQueryAttention`: read in the method.

        def compute(*args, **kwargs):
            vars(layer)["_return_attention_scores"] = True
            return own_compute(*args, **kwargs)

        return {"_compute_attention": compute, "_return_attention_scores": True}
    parameters = signature(own_compute)
    if "return_attention_scores" not in parameters.parameters:
        return {}

    def compute_with_scores(*args, **kwargs):
        given = parameters.bind(*args, **kwargs)
        given.arguments["return_attention_scores"] = True
        return own_compute(*given.args, **given.kwargs)

    return {"_compute_attention": compute_with_scores}


@contextmanager
def _replaced(owner, values):
    """Replaces attributes of an object while the context lasts, without Keras tracking them."""
    before = {name: vars(owner)[name] for name in values if name in vars(owner)}
    vars(owner).update(values)
    try:
        yield
    finally:
        for name in values:
            del vars(owner)[name]
        vars(owner).update(before)
