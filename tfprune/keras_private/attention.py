"""The parts of Keras's attention layers."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import keras
from keras import ops


class Projections(NamedTuple):
    """The dense layers of an attention layer.

    Args:
        query: From the query to queries, heads on axis 1 of its kernel.
        key: From the key to keys.
        value: From the value to values.
        output: From all heads to the output, heads on axis 0 of its kernel.
        gate: What heads are multiplied by, from the query; `None` where there is none.
    """

    query: keras.layers.EinsumDense
    key: keras.layers.EinsumDense
    value: keras.layers.EinsumDense
    output: keras.layers.EinsumDense
    gate: keras.layers.EinsumDense | None


def projections(layer: keras.Layer) -> Projections:
    """The projections of a `MultiHeadAttention` or `GroupQueryAttention`.

    Assumes: both keep them as `_query_dense`, `_key_dense`, `_value_dense` and `_output_dense`,
    and `_gate_dense` in versions of Keras that know gated attention.
    """
    return Projections(
        layer._query_dense,
        layer._key_dense,
        layer._value_dense,
        layer._output_dense,
        getattr(layer, "_gate_dense", None),
    )


def attend(layer: keras.Layer, query: Any, key: Any, value: Any, mask: Any = None) -> Any:
    """What the heads of an attention layer find, before the output projection.

    Assumes: `_compute_attention` takes projected queries, keys and values with as many heads each,
    and a mask, to which it gives an axis of heads; it returns the result and the scores.

    Args:
        layer: A built `MultiHeadAttention` or `GroupQueryAttention`.
        query: `(batch, queries, heads, head size)`.
        key: `(batch, keys, key heads, head size)`; each is shared by as many heads.
        value: `(batch, keys, key heads, value size)`.
        mask: Boolean, broadcasts against `(batch, queries, keys)`: which keys a query attends to.

    Returns:
        Tensor `(batch, queries, heads, value size)`.
    """
    repeats = query.shape[-2] // key.shape[-2]
    if repeats > 1:
        key, value = (ops.repeat(x, repeats, axis=-2) for x in (key, value))
    found, _ = layer._compute_attention(query, key, value, mask)
    return found


def output_shape_of(layer: keras.layers.MultiHeadAttention) -> tuple[int, ...] | None:
    """The `output_shape` with which an attention layer was made, `None` for the query's width.

    Assumes: it is kept as `_output_shape`.
    """
    return layer._output_shape


def dropout_of(layer: keras.Layer) -> float:
    """The share of attention weights that an attention layer drops when it trains.

    Assumes: `MultiHeadAttention` keeps it as `_dropout`, `GroupQueryAttention` as `dropout`.
    """
    return getattr(layer, "_dropout", None) or getattr(layer, "dropout", None) or 0.0


def cached_attention_classes() -> tuple[type[keras.layers.MultiHeadAttention], ...]:
    """KerasHub's subclasses of `MultiHeadAttention` with a cache, as far as they are imported.

    Assumes: without a cache, as in training, their `call` computes what Keras's does, from the same
    projections. Those of other models, such as Moonshine and XLNet, add something of their own.
    """
    places = {
        "keras_hub.src.layers.modeling.cached_multi_head_attention": "CachedMultiHeadAttention",
        "keras_hub.src.models.whisper.whisper_cached_multi_head_attention": (
            "WhisperCachedMultiHeadAttention"
        ),
    }
    found = (getattr(sys.modules.get(module), name, None) for module, name in places.items())
    return tuple(layer_class for layer_class in found if layer_class is not None)
