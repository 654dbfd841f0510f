"""The output layer of a student, computed for some pieces only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

from tfprune.embeddings.factorized_embedding import FactorizedEmbedding
from tfprune.overlay.folding import folded
from tfprune.overlay.transforms import transforms_of
from tfprune.translation.forms import Form, Step
from tfprune.translation.shortlist import Shortlist
from tfprune.translation.values import Values


class OutputRows(Form):
    """The call that makes the logits, for the candidates of a shortlist only.

    It keeps the rows of the output layer that make their logits. The output layer is a `Dense`
    without activation, or a `ReversibleEmbedding` or `FactorizedEmbedding` that is called with
    `reverse=True`.

    Args:
        node: The call.
        shortlist: The shortlist.
        source: The symbolic tensor of source ids.
        take: Function of a weight, ids `(…,)` and the axis along which the weight has an entry for
            each id, to rows `(…, width)`, of a vector to numbers `(…,)`; by default
            `keras.ops.take`. An export may know a better operation.

    Raises:
        ValueError: If the logits are made in another way.
    """

    def __init__(
        self,
        node: Any,
        shortlist: Shortlist,
        source: Any,
        take: Callable[[Any, Any, int], Any] | None = None,
    ):
        super().__init__(node)
        layer = node.operation
        kinds = (layers.Dense, layers.ReversibleEmbedding, FactorizedEmbedding)
        # A subclass may compute something else; the class, since a fit replaces `call` of the
        # layer itself.
        known = any(getattr(type(layer), "call", None) is kind.call for kind in kinds)
        if known and isinstance(layer, layers.Dense):
            known = layer.activation is keras.activations.linear and layer.kernel.ndim == 2
        elif known:
            known = bool(self.arguments.get("reverse"))
        if not known or getattr(layer, "quantization_mode", None):
            raise ValueError(
                "`shortlist` needs a model whose logits are made by a Dense layer without "
                "activation or an embedding called with `reverse=True`, not quantized by Keras. "
                f"Received: a model that makes them by {type(layer).__name__} {layer.name!r}"
            )
        self.layer, self.shortlist, self.source = layer, shortlist, source
        self._take = take or _take

    def keep(self, values: Values) -> list[Any]:
        """As in `Form`: rows `(batch, candidates, width)`, biases if there are any, candidates.

        Where the batch is known to be 1, they have no axis for it: LiteRT computes the product with
        a matrix faster than that with a batch of them.
        """
        candidates = self.shortlist.candidates(values.whole(self.source))
        if isinstance(values.batch, int) and values.batch == 1:
            candidates = ops.reshape(candidates, (-1,))
        return [*self._gather(candidates), candidates]

    @property
    def number_kept(self) -> int:
        """The number of tensors that `keep` returns."""
        return 2 if getattr(self.layer, "bias", None) is None else 3

    def run(self, values: Values, step: Step | None = None) -> None:
        """As in `Form`: logits `(batch, candidates)`."""
        assert step is not None
        *weights, _ = step.kept  # It is the last.
        logits = self._logits(values.rows(self.node.input_tensors[0]), *weights)
        values.set_rows(self.node.outputs[0], logits)

    def _gather(self, ids):
        """The rows of the output layer for some pieces, and their biases if there are any."""
        if isinstance(self.layer, layers.Dense):
            name, axis = "kernel", 1
        elif getattr(self.layer, "tie_weights", True):
            name, axis = "embeddings", 0
        else:
            name, axis = "reverse_embeddings", 1
        found = [self._take(self._weight(name), ids, axis)]
        if getattr(self.layer, "bias", None) is not None:
            found.append(self._take(self._weight("bias"), ids, 0))
        return [self._reversed(x) for x in found]

    def _logits(self, x, rows, bias=None):
        """`(batch, width)` to `(batch, candidates)`."""
        # Keras casts what a layer reads, but for embeddings, which read ids.
        x = self._reversed(ops.cast(x, self.layer.compute_dtype) if self.layer.autocast else x)
        if isinstance(self.layer, FactorizedEmbedding):
            x = ops.matmul(x, ops.transpose(self._reversed(self._weight("kernel"))))
        if len(rows.shape) == 2:
            logits = ops.matmul(x, ops.transpose(rows))
        else:
            logits = ops.squeeze(ops.matmul(rows, ops.expand_dims(x, 2)), axis=2)
        if bias is not None:
            logits = logits + bias
        cap = getattr(self.layer, "logit_soft_cap", None)
        return logits if cap is None else ops.tanh(logits / cap) * cap

    def _reversed(self, x):
        """In the type in which the product is computed."""
        dtype = getattr(self.layer, "reverse_dtype", None)
        return x if dtype is None else ops.cast(x, dtype)

    def _weight(self, attribute):
        """A weight as the layer sees it: in its type, and in a fit through gates."""
        weight = folded(
            getattr(self.layer, attribute), transforms_of(self.layer).get(attribute, ())
        )
        return ops.cast(weight, self.layer.compute_dtype)


def _take(weight, ids, axis):
    return ops.take(ops.moveaxis(weight, axis, 0), ids, axis=0)
