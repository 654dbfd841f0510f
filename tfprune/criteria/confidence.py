"""How sure of itself each attention head is."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from inspect import signature
from typing import Any

import keras
import numpy as np
from keras import ops

from tfprune.batches import each_batch
from tfprune.structures import Structure, find_structures


class Confidence(dict):
    """Layer path to an array `(heads,)`; a criterion, since it can be called.

    Attributes:
        kinds: Layer path to `"encoder"` (self-attention that sees all), `"decoder"` (causal
            self-attention) or `"context"` (cross-attention).
        skipped: Layer path to the reason why a layer has no scores.
    """

    def __init__(self, scores, kinds, skipped):
        super().__init__(scores)
        self.kinds = kinds
        self.skipped = skipped

    def __call__(self, structure: Structure) -> np.ndarray:
        """The scores of one structure; query heads that share a key and value count as one."""
        if structure.name not in self:
            raise ValueError(
                f"There is no attention confidence of {structure.name!r}: "
                f"{self.skipped.get(structure.name, 'it is not a layer of attention')}. There is "
                f"that of: {', '.join(self) or 'none'}"
            )
        return self[structure.name].reshape(structure.groups, -1).mean(axis=1)

    def __str__(self) -> str:
        lines = [
            f"{path} ({self.kinds[path]}): " + " ".join(f"{score:.2f}" for score in scores)
            for path, scores in self.items()
        ]
        return "\n".join(lines + [f"{path}: skipped, {why}" for path, why in self.skipped.items()])


def attention_confidence(
    model: keras.Model, x: Any, batch_size: int = 32, steps: int | None = None
) -> Confidence:
    """The mean over query positions of a head's largest attention probability.

    A head that is sure looks at one position, one that is not spreads its attention. Positions that
    are masked do not count: those that may attend to nothing, in self-attention those that may not
    attend to themselves, in a decoder those that its self-attention masks or whose sample weight is
    zero. The model is run as in inference, without fused kernels, and is not changed.

    Args:
        model: A built model, with any attention layer of Keras or KerasHub that has a softmax of
            its own.
        x: What `model.predict` takes: arrays, or a dataset of `x`, `(x, y)` or
            `(x, y, sample_weight)`.
        batch_size: For arrays.
        steps: Batches to look at; all by default.

    Returns:
        Layer path to an array with one score from 0 to 1 for each head; NaN where no position
        counted.

    Raises:
        ValueError: If no attention layer is found, or there is no data.

    Source: Voita et al., "Analyzing Multi-Head Self-Attention", 2019, section 4; Behnke &
    Heafield, "Losing Heads in the Lottery", 2020, section 4.

    Example:

    >>> import keras, numpy as np
    >>> inputs = keras.Input((5, 8))
    >>> outputs = keras.layers.MultiHeadAttention(2, 4, name="attention")(inputs, inputs)
    >>> model = keras.Model(inputs, outputs)
    >>> attention_confidence(model, np.ones((3, 5, 8)))["attention"]
    array([0.2, 0.2])
    """
    probe = _Probe(model)
    totals, seen, later = {}, {}, {}
    batches = 0
    for inputs, weights in itertools.islice(_batches(x, batch_size), steps):
        batches += 1
        found = probe.predict_on_batch(inputs)
        for name, largest, counts, ahead in _counted(found, weights, probe.context):
            sums = np.where(counts[:, None, :], largest.astype("float64"), 0.0).sum((0, 2))
            totals[name] = totals.get(name, 0.0) + sums
            seen[name] = seen.get(name, 0) + int(counts.sum())
            later[name] = later.get(name, False) or ahead
    if not batches:
        raise ValueError("`x` must hold at least one batch. Received: none")
    if not totals:
        reasons = "; ".join(f"{path}: {why}" for path, why in probe.skipped.items())
        raise ValueError(
            "`model` must have attention layers whose probabilities can be read. Received: "
            f"{model.name}, {reasons or 'which has no attention'}"
        )
    kinds = {
        name: "context" if probe.context[name] else "encoder" if later[name] else "decoder"
        for name in totals
    }
    scores = {
        name: totals[name] / seen[name] if seen[name] else np.full_like(totals[name], np.nan)
        for name in probe.watched
        if name in totals
    }
    return Confidence(scores, kinds, probe.skipped)


def _counted(found, weights, context):
    """The calls in one batch: name, confidence `(B, H, T)`, what counts `(B, T)`, looks ahead."""
    calls = [
        (name, largest, counts.astype(bool), bool(ahead.any()))
        for name, of_layer in found.items()
        for largest, counts, ahead in of_layer
    ]
    of_decoder = [] if weights is None else [np.asarray(weights) > 0]
    for _ in range(2):  # First self-attention of the decoder, then what asks for its positions.
        for number, (name, largest, counts, ahead) in enumerate(calls):
            if context[name] or not ahead:
                for known in of_decoder:
                    if known.shape == counts.shape:
                        counts = counts & known
                calls[number] = (name, largest, counts, ahead)
        of_decoder = [c for name, _, c, ahead in calls if not context[name] and not ahead]
    return calls


def _batches(x, batch_size) -> Iterator[tuple[Any, Any]]:
    """Inputs with weights of positions `(B, T)`, if the data has them."""
    arrays = isinstance(x, (dict, list, tuple)) or hasattr(x, "shape")
    if arrays and not isinstance(x, keras.utils.PyDataset):
        number = len(keras.tree.flatten(x)[0])
        starts = range(0, number, batch_size)
        data = ((_rows(x, slice(start, start + batch_size)),) for start in starts)
    else:
        data = each_batch(x)
    for batch in data:
        inputs, _, weights = keras.utils.unpack_x_y_sample_weight(batch)
        by_position = weights is not None and getattr(weights, "ndim", None) == 2
        yield inputs, weights if by_position else None


def _rows(x, rows):
    return keras.tree.map_structure(lambda array: array[rows], x)


class _Probe(keras.Model):
    """The model, which gives what its attention layers see instead of its outputs."""

    def __init__(self, model):
        super().__init__(name="probe")
        self.model = model
        names = {id(s.layer): s.name for s in find_structures(model) if s.kind == "heads"}
        self.watched, self.skipped, self.context = {}, {}, {}
        for layer in model._flatten_layers(include_self=False):
            name = names.get(id(layer), layer.path)
            if hasattr(layer, "_masked_softmax"):
                self.watched[name] = layer
            elif hasattr(layer, "_compute_attention"):
                self.skipped[name] = f"{type(layer).__name__} has no softmax that can be watched"
        self.built = True

    def call(self, inputs):
        """For each layer the calls it had: `(B, H, T)`, `(B, T)` and `(B,)`."""
        calls = {}
        with ExitStack() as stack:
            for name, layer in self.watched.items():
                take = partial(self._take, calls, name)
                stack.enter_context(_watched(layer, take))
            self.model(inputs, training=False)
        for name in set(self.watched) - set(calls):
            self.skipped[name] = "it was not called, or a fused kernel computed its softmax"
        return calls

    def _take(self, calls, name, is_context, probabilities, mask):
        self.context[name] = is_context
        calls.setdefault(name, []).append(_seen(probabilities, mask, is_context))


def _seen(probabilities, mask, is_context):
    """Confidence `(B, H, T)`, which positions count `(B, T)`, whether any looks ahead `(B,)`."""
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
def _watched(layer, take):
    """Lets the layer's softmax be seen, and keeps fused kernels from passing it by."""
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
        take(is_context, probabilities, attention_mask)
        return probabilities

    # Cast one by one, query and value would no longer be the same tensor; projections cast anyway.
    laid = {"call": call, "_masked_softmax": softmax, "autocast": False}
    if hasattr(layer, "_flash_attention"):
        laid["_flash_attention"] = False
    own_compute = getattr(layer, "_compute_attention", None)
    # Keras's own layers pass their softmax by unless they are to return what it gives.
    if isinstance(layer, keras.layers.GroupQueryAttention):

        def compute(*args, **kwargs):
            vars(layer)["_return_attention_scores"] = True
            return own_compute(*args, **kwargs)

        laid |= {"_compute_attention": compute, "_return_attention_scores": True}
    elif own_compute and "return_attention_scores" in signature(own_compute).parameters:

        def compute(*args, **kwargs):
            given = signature(own_compute).bind(*args, **kwargs)
            given.arguments["return_attention_scores"] = True
            return own_compute(*given.args, **given.kwargs)

        laid["_compute_attention"] = compute
    # KerasHub's layers ask a function of their module whether there is a fused kernel.
    module = sys.modules[type(layer).__module__]
    fused = [name for name in ("fused_attention_op_available",) if hasattr(module, name)]
    with _replaced(layer, laid), _replaced(module, dict.fromkeys(fused, lambda: False)):
        yield


@contextmanager
def _replaced(thing, values):
    """Gives an object other attributes for a while, past Keras's tracking."""
    before = {name: vars(thing)[name] for name in values if name in vars(thing)}
    vars(thing).update(values)
    try:
        yield
    finally:
        for name in values:
            del vars(thing)[name]
        vars(thing).update(before)
