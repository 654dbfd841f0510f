"""Attention at one position, as the layer computes it: with keys and values that are kept.

It takes any kind of attention; `plain_attention` needs fewer operations for the usual one.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from tfprune.keras_private.attention import (
    attend,
    projections,
)
from tfprune.translation.forms import Form, Step
from tfprune.translation.values import Values


class KeptCrossAttention(Form):
    """A step of attention to the source, with keys and values that are kept, as Keras has them."""

    def keep(self, values: Values) -> list[Any]:
        """As in `Form`: keys and values `(batch, source length, heads, size)`."""
        parts = projections(self.node.operation)
        value = self.arguments["value"]
        key = self.arguments.get("key", value)
        return [parts.key(values.whole(key)), parts.value(values.whole(value))]

    def run(self, values: Values, step: Step | None = None) -> None:
        """As in `Form`."""
        assert step is not None
        mask = self.arguments.get("attention_mask")
        key, value = next(step.kept), next(step.kept)
        mask = None if mask is None else ops.cast(values.whole(mask), "bool")
        query = values.whole(self.arguments["query"])
        found = _attend(self.node.operation, query, key, value, mask)
        values.set_whole(self.node.outputs[0], found)


class KeptSelfAttention(Form):
    """A step of causal attention to the target, with keys and values of the steps before.

    Args:
        node: The call.
        length: How many positions there are at most.
    """

    def __init__(self, node: Any, length: int):
        super().__init__(node)
        self.length = length

    def start(self, batch: Any) -> list[Any]:
        """As in `Form`: keys and values `(batch, length, heads, size)`."""
        layer = self.node.operation
        parts = projections(layer)
        return [
            ops.zeros((batch, self.length, *dense.kernel.shape[1:]), layer.compute_dtype)
            for dense in (parts.key, parts.value)
        ]

    def run(self, values: Values, step: Step | None = None) -> None:
        """As in `Form`."""
        assert step is not None
        parts = projections(self.node.operation)
        x = values.whole(self.arguments["value"])
        start = (0, step.position, 0, 0)
        key, value = (
            ops.slice_update(old, start, ops.cast(dense(x), old.dtype))
            for dense, old in ((parts.key, next(step.old)), (parts.value, next(step.old)))
        )
        step.new.extend([key, value])
        mask = ops.reshape(ops.arange(self.length) <= step.position, (1, 1, -1))
        query = values.whole(self.arguments["query"])
        found = _attend(self.node.operation, query, key, value, mask)
        values.set_whole(self.node.outputs[0], found)


def _attend(layer, x, key, value, mask):
    parts = projections(layer)
    output = attend(layer, parts.query(x), key, value, mask)
    if parts.gate is not None:
        output = output * parts.gate(x)
    return parts.output(output)
