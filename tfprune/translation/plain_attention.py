"""Attention of the usual kind, by as few operations as possible.

All positions are rows of one product with all heads, and keys and values are laid out as the
products of heads read them.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfprune.keras_private.attention import cached_attention_classes, projections
from tfprune.overlay.transforms import overlay_of
from tfprune.translation.forms import Form, Step
from tfprune.translation.values import Values


def has_plain_heads(layer: keras.Layer) -> bool:
    """Whether an attention layer computes what `MultiHeadAttention` does, from plain kernels.

    A subclass may compute anything; a kernel may be quantized, or have an adapter beside it.
    """
    if type(layer) not in (keras.layers.MultiHeadAttention, *cached_attention_classes()):
        return False
    parts = projections(layer)
    return parts.gate is None and all(
        type(dense) is keras.layers.EinsumDense
        and dense.activation is keras.activations.linear
        and not getattr(dense, "lora_enabled", False)
        and getattr(dense, "quantization_mode", None) is None
        for dense in parts[:4]
    )


class _Heads:
    """The projections of an attention layer as matrices.

    Args:
        layer: A layer with plain heads.
    """

    def __init__(self, layer: keras.Layer):
        self._parts = projections(layer)
        self._dtype = layer.compute_dtype
        self._number, self._key_size = self._parts.key.kernel.shape[1:]
        self._value_size = self._parts.value.kernel.shape[-1]

    def start(self, batch: Any, length: int) -> list[Any]:
        """Keys and values of no position yet, `(batch, heads, length, size)`."""
        sizes = self._key_size, self._value_size
        return [ops.zeros((batch, self._number, length, size), self._dtype) for size in sizes]

    def queries(self, x: Any, values: Values) -> Any:
        """Rows to queries, divided by the root of their size, `(batch, heads, length, size)`."""
        return self._split(x, self._query(), self._key_size, values)

    def keys_and_values(self, x: Any, y: Any, values: Values) -> tuple[Any, Any]:
        """Rows of keys and of values to two tensors `(batch, heads, length, size)`."""
        parts = self._parts
        return (
            self._split(x, self._matrix(parts.key), self._key_size, values),
            self._split(y, self._matrix(parts.value), self._value_size, values),
        )

    def all_of(self, x: Any, values: Values) -> tuple[Any, Any, Any]:
        """Rows that are queries, keys and values to tensors `(batch, heads, length, size)`."""
        if self._key_size != self._value_size:
            return self.queries(x, values), *self.keys_and_values(x, x, values)
        each = self._query(), self._matrix(self._parts.key), self._matrix(self._parts.value)
        kernel, bias = (ops.concatenate(parts, axis=-1) for parts in zip(*each, strict=True))
        return ops.split(self._split(x, (kernel, bias), self._key_size, values), 3, axis=1)

    def output(self, scores: Any, value: Any) -> Any:
        """What heads find, with scores before the softmax, to rows `(batch · length, width)`."""
        found = ops.matmul(ops.softmax(scores), value)
        if found.shape[2] != 1:
            found = ops.transpose(found, (0, 2, 1, 3))
        found = ops.reshape(found, (-1, self._number * self._value_size))
        dense = self._parts.output
        kernel = ops.cast(dense.kernel, self._dtype)
        found = ops.matmul(found, ops.reshape(kernel, (-1, kernel.shape[-1])))
        return found if dense.bias is None else found + ops.cast(dense.bias, self._dtype)

    def _query(self):
        return tuple(part * self._key_size**-0.5 for part in self._matrix(self._parts.query))

    def _matrix(self, dense):
        kernel = ops.cast(dense.kernel, self._dtype)
        columns = self._number * kernel.shape[-1]
        kernel = ops.reshape(kernel, (-1, columns))
        if dense.bias is None:
            return kernel, ops.zeros((columns,), self._dtype)
        return kernel, ops.reshape(ops.cast(dense.bias, self._dtype), (columns,))

    def _split(self, x, kernel_and_bias, size, values):
        kernel, bias = kernel_and_bias
        found = ops.matmul(x, kernel) + bias
        heads = kernel.shape[-1] // size
        if values.length == 1:
            return ops.reshape(found, (-1, heads, 1, size))
        found = ops.reshape(found, (values.batch, values.length, heads, size))
        return ops.transpose(found, (0, 2, 1, 3))


def _masked(scores: Any, mask: Any) -> Any:
    """Scores `(batch, heads, queries, keys)` plus a mask that broadcasts to them."""
    return scores if mask is None else scores + mask


def _added(mask: Any, dtype: str) -> Any:
    """What is added to scores: nothing where a mask is true, else a number that leaves nothing."""
    # Half precision has no larger one.
    return ops.where(
        mask, ops.cast(0, dtype), ops.cast(-3e4 if dtype == "float16" else -1e9, dtype)
    )


class _PlainAttention(Form):
    """A form of attention with plain heads."""

    def __init__(self, node: Any):
        super().__init__(node)
        self.heads = _Heads(node.operation)

    def fits(self) -> bool:
        """As in `Form`: kernels are read, so nothing may stand between them and their layers."""
        return not any(map(overlay_of, filter(None, projections(self.node.operation))))

    def source_mask(self, values: Values) -> Any:
        """What is added to scores for the mask of the call; `None` where it has none."""
        tensor = self.arguments.get("attention_mask")
        if tensor is None:
            return None

        def make():
            mask = ops.cast(values.whole(tensor), "bool")
            return _added(mask[:, None], self.node.operation.compute_dtype)

        return values.once(("mask", id(tensor)), make)


class SelfAttention(_PlainAttention):
    """Attention of all positions to all, of whole sentences: one product for all projections."""

    def run(self, values: Values, step: Step | None = None) -> None:
        """As in `Form`."""
        query, key, value = self.heads.all_of(values.rows(self.arguments["value"]), values)
        scores = ops.matmul(query, ops.swapaxes(key, 2, 3))
        found = self.heads.output(_masked(scores, self.source_mask(values)), value)
        values.set_rows(self.node.outputs[0], found)


class CrossAttention(_PlainAttention):
    """A step of attention to the source; keys are kept as columns, and masks as summands."""

    def keep(self, values: Values) -> list[Any]:
        """As in `Form`: keys `(batch, heads, size, length)`, values, and a mask if there is one."""
        value = self.arguments["value"]
        key = self.arguments.get("key", value)
        key, value = self.heads.keys_and_values(values.rows(key), values.rows(value), values)
        mask = self.source_mask(values)
        return [ops.swapaxes(key, 2, 3), value, *([] if mask is None else [mask])]

    def run(self, values: Values, step: Step | None = None) -> None:
        """As in `Form`."""
        assert step is not None
        key, value = next(step.kept), next(step.kept)
        mask = None if self.arguments.get("attention_mask") is None else next(step.kept)
        query = self.heads.queries(values.rows(self.arguments["query"]), values)
        scores = ops.matmul(query, key)
        values.set_rows(self.node.outputs[0], self.heads.output(_masked(scores, mask), value))


class CausalSelfAttention(_PlainAttention):
    """A step of causal attention to the target: one product for all projections.

    Args:
        node: The call.
        length: How many positions there are at most.
    """

    def __init__(self, node: Any, length: int):
        super().__init__(node)
        self.length = length

    def start(self, batch: Any) -> list[Any]:
        """As in `Form`: keys and values `(batch, heads, length, size)`."""
        return self.heads.start(batch, self.length)

    def run(self, values: Values, step: Step | None = None) -> None:
        """As in `Form`."""
        assert step is not None
        query, *new = self.heads.all_of(values.rows(self.arguments["value"]), values)
        place = (0, 0, step.position, 0)
        key, value = (ops.slice_update(next(step.old), place, each) for each in new)
        step.new.extend([key, value])
        here = ops.arange(self.length) <= step.position
        scores = ops.matmul(query, ops.swapaxes(key, 2, 3)) + _added(
            here, self.node.operation.compute_dtype
        )
        values.set_rows(self.node.outputs[0], self.heads.output(scores, value))
