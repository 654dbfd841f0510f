"""The softmax inside attention layers of Keras and KerasHub."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from inspect import signature
from typing import Any

import keras

# The functions that `masked_scores_at` replaces are those of the process.
_masking = threading.RLock()


def has_softmax(layer: keras.Layer) -> bool:
    """Whether a layer computes attention by a softmax that `softmax_hooked` can read.

    Assumes: the softmax is a method `_masked_softmax`.
    """
    return hasattr(layer, "_masked_softmax")


def is_attention(layer: keras.Layer) -> bool:
    """Whether a layer computes attention, by a softmax of its own or in another way.

    Assumes: it has a method `_compute_attention` or `_masked_softmax`.
    """
    return hasattr(layer, "_compute_attention") or has_softmax(layer)


@contextmanager
def softmax_hooked(layer: keras.Layer, record: Callable[[bool, Any, Any], None]):
    """Passes the results of a layer's softmax to a function while the context lasts.

    Assumes: the layer calls its own `_masked_softmax(scores, attention_mask)` wherever no fused
    kernel takes its place. Keras's layers use none where scores are to be returned: an argument
    `return_attention_scores` of `_compute_attention`, or the attribute `_return_attention_scores`,
    which that method reads. KerasHub's ask `fused_attention_op_available()` of their module, or
    the attribute `_flash_attention`. An instance's `__dict__` comes before its class.

    Args:
        layer: An attention layer of Keras or KerasHub that `has_softmax`.
        record: Called as `record(is_context, probabilities, mask)` for each call of the layer:
            whether the value is another tensor than the query, the probabilities
            `(batch, heads, queries, keys)`, and the mask, which broadcasts against them, or `None`.
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
def masked_scores_at(value: float) -> Iterator[list[bool]]:
    """Scores that are masked before a softmax are `value` while the context lasts, on TensorFlow.

    In this thread alone; another one that asks for the same waits.

    Assumes: `keras.layers.Softmax` asks `_large_negative_number(dtype)` of its module what they
    are, which attention layers have inside, and `keras.ops.dot_product_attention` asks
    `_get_large_negative(dtype)` of that of the backend.

    Args:
        value: A negative number, in place of -1e9 or of the largest there is.

    Yields:
        A list that is empty as long as nobody has asked.
    """
    asked: list[bool] = []

    layer = import_module("keras.src.layers.activations.softmax")
    backend = import_module("keras.src.backend.tensorflow.nn")
    thread = threading.get_ident()

    def plain(dtype):
        if threading.get_ident() != thread:
            return own_plain(dtype)
        asked.append(True)
        return value

    def tensor(dtype):
        if threading.get_ident() != thread:
            return own_tensor(dtype)
        return keras.ops.convert_to_tensor(plain(dtype), dtype)

    with _masking:
        own_plain, own_tensor = layer._large_negative_number, backend._get_large_negative
        with (
            _replaced(layer, {"_large_negative_number": plain}),
            _replaced(backend, {"_get_large_negative": tensor}),
        ):
            yield asked


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
