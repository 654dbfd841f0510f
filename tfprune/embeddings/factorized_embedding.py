"""An embedding that is the product of two matrices, and its ranks, which can be pruned."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from tfprune.arguments import integer
from tfprune.structures.registry import register_layer_kind
from tfprune.structures.slices import Slices
from tfprune.structures.structure import Reader, Remainder, Structure


@keras.saving.register_keras_serializable("tfprune")
class FactorizedEmbedding(keras.Layer):
    """`E = Ê P`: the rows of a narrow embedding are projected to the width of the model.

    It replaces an `Embedding` or a tied `ReversibleEmbedding`. A model with this layer needs
    `import tfprune` to load.

    Args:
        input_dim: Size of the vocabulary, the number of rows.
        output_dim: Width of the output.
        rank: Columns of Ê and rows of P.
        mask_zero: As in `keras.layers.Embedding`.
        reverse_dtype: As in `keras.layers.ReversibleEmbedding`.
        logit_soft_cap: As in `keras.layers.ReversibleEmbedding`.
        **kwargs: As in `keras.Layer`.

    Attributes:
        embeddings: Ê, `(input_dim, rank)`.
        kernel: P, `(rank, output_dim)`.

    Raises:
        ValueError: If a size is not a positive integer.

    Source: Lan et al., "ALBERT", 2020, section 3.1; Li et al., 2022, section 3.

    Example:

    >>> import numpy as np
    >>> layer = FactorizedEmbedding(100, 8, rank=3)
    >>> tuple(layer(np.array([[1, 2]])).shape), tuple(layer(np.ones((1, 2, 8)), reverse=True).shape)
    ((1, 2, 8), (1, 2, 100))
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        rank: int,
        mask_zero: bool = False,
        reverse_dtype: str | None = None,
        logit_soft_cap: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        for name, value in (("input_dim", input_dim), ("output_dim", output_dim), ("rank", rank)):
            setattr(self, name, integer(name, value))
        self.mask_zero = mask_zero
        self.reverse_dtype = reverse_dtype
        self.logit_soft_cap = logit_soft_cap

    def build(self, input_shape: Any = None) -> None:
        """Creates both matrices."""
        self.embeddings = self.add_weight(
            name="embeddings", shape=(self.input_dim, self.rank), initializer="uniform"
        )
        self.kernel = self.add_weight(
            name="kernel", shape=(self.rank, self.output_dim), initializer="glorot_uniform"
        )

    def call(self, inputs: Any, reverse: bool = False) -> Any:
        """Looks up vectors, or computes logits.

        Args:
            inputs: Ids `(…,)`; with `reverse`, vectors `(…, output_dim)`.
            reverse: Whether to compute logits.

        Returns:
            Vectors `(…, output_dim)`; with `reverse`, logits `(…, input_dim)`.
        """
        if not reverse:
            if not keras.backend.is_int_dtype(inputs.dtype):
                inputs = ops.cast(inputs, "int32")
            return self.project(ops.take(ops.convert_to_tensor(self.embeddings), inputs, axis=0))
        rows, kernel = ops.convert_to_tensor(self.embeddings), ops.convert_to_tensor(self.kernel)
        if self.reverse_dtype is not None:
            inputs, rows, kernel = (ops.cast(x, self.reverse_dtype) for x in (inputs, rows, kernel))
        logits = ops.matmul(ops.matmul(inputs, ops.swapaxes(kernel, -1, -2)), ops.transpose(rows))
        cap = self.logit_soft_cap
        return logits if cap is None else ops.tanh(logits / cap) * cap

    def project(self, rows: Any) -> Any:
        """Projects rows of Ê `(…, rank)` to vectors `(…, output_dim)`."""
        kernel = ops.cast(ops.convert_to_tensor(self.kernel), self.compute_dtype)
        return ops.matmul(ops.cast(rows, self.compute_dtype), kernel)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """With `mask_zero`, whether ids differ from 0; `None` for logits."""
        if not self.mask_zero or not keras.backend.is_int_dtype(inputs.dtype):
            return None
        return ops.not_equal(inputs, 0)

    def compute_output_spec(self, inputs: Any, reverse: bool = False) -> Any:
        """The shape and data type of the output of `call`."""
        shape = (
            (*inputs.shape[:-1], self.input_dim) if reverse else (*inputs.shape, self.output_dim)
        )
        dtype = self.reverse_dtype if reverse and self.reverse_dtype else self.compute_dtype
        return keras.KerasTensor(shape, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        """The configuration."""
        return {
            **super().get_config(),
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "rank": self.rank,
            "mask_zero": self.mask_zero,
            "reverse_dtype": self.reverse_dtype,
            "logit_soft_cap": self.logit_soft_cap,
        }


def is_embedding(layer: Any) -> bool:
    """Whether a layer looks up rows of its `embeddings`."""
    return isinstance(layer, (keras.layers.Embedding, FactorizedEmbedding))


class EmbeddingRanks(Structure):
    """The inner size of one `FactorizedEmbedding`: a column of Ê and a row of P are a group."""

    kind = "ranks"
    least = 1
    can_differ_by_example = True  # `call` broadcasts over a kernel for each example.

    def __init__(self, name: str, layer: FactorizedEmbedding):
        slices = (
            Slices(layer, "embeddings", 1, "producer"),
            Slices(layer, "kernel", 0, "consumer"),
        )
        super().__init__(name, layer.rank, slices)

    def emitted(self, consumer: Slices, read: Reader) -> np.ndarray | None:
        """Zero: a lookup has no bias."""
        return np.zeros(consumer.variable.shape[:1], "float32")

    def resized_config(self, layer: keras.Layer, groups: int) -> dict[str, Any]:
        """A smaller rank."""
        return {"rank": groups}

    def remainders(self) -> list[Remainder]:
        """Not needed: one rank always stays."""
        return []


@register_layer_kind(FactorizedEmbedding)
def describe_factorized_embedding(layer: keras.Layer, name: str) -> Structure:
    """The ranks of a `tfprune.FactorizedEmbedding`."""
    return EmbeddingRanks(name, layer)
