"""Scores of attention heads by confidence: the largest probability that a head assigns."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from tfprune.arguments import integer, keras_model
from tfprune.batches import each_batch
from tfprune.criteria.attention_probe import AttentionProbe
from tfprune.criteria.criterion import Criterion, Scores, register_criterion
from tfprune.criteria.data import (
    as_tensors,
    as_the_layers_take_it,
    check_arrays,
    check_data,
    is_arrays,
)
from tfprune.structures import Structure, Structures
from tfprune.tables import wrapped


class Confidence(dict):
    """Layer path to an array `(heads,)`; also a `callable(structure)`, as criteria return it.

    Attributes:
        kinds: Layer path to `"encoder"` (self-attention to all positions), `"decoder"` (causal
            self-attention) or `"context"` (cross-attention).
        skipped: Layer path to the reason why a layer has no scores.
    """

    def __init__(
        self,
        scores: Mapping[str, np.ndarray],
        kinds: dict[str, str],
        skipped: dict[str, str],
    ):
        super().__init__(scores)
        self.kinds = kinds
        self.skipped = skipped

    def __call__(self, structure: Structure) -> np.ndarray:
        """The scores of one structure; query heads that share a key and value count as one."""
        if structure.name not in self:
            raise ValueError(
                f"There is no attention confidence of {structure.name!r}: "
                f"{self.skipped.get(structure.name, 'it is not an attention layer')}. Layers with "
                f"scores: {', '.join(self) or 'none'}"
            )
        return self[structure.name].reshape(structure.groups, -1).mean(axis=1)

    def __str__(self) -> str:
        lines = [
            f"{path} ({self.kinds[path]}): " + " ".join(f"{score:.2f}" for score in scores)
            for path, scores in self.items()
        ]
        lines += [f"{path}: skipped, {why}" for path, why in self.skipped.items()]
        return "\n".join(map(wrapped, lines))


def attention_confidence(
    model: keras.Model, x: Any, batch_size: int = 32, steps: int | None = None
) -> Confidence:
    """The mean over query positions of a head's largest attention probability.

    A confident head attends to one position; others spread their attention over many. Masked
    positions are left out of the mean: those that may attend to nothing; in self-attention those
    that may not attend to themselves; in a decoder those that its self-attention masks or whose
    sample weight is zero. The model is run in inference mode, without fused kernels, and is not
    changed.

    Args:
        model: A built model, with attention layers of Keras or KerasHub that compute a softmax.
        x: What `model.predict` takes: arrays, or a dataset of `x`, `(x, y)` or
            `(x, y, sample_weight)`. It must be held out of training, as a development set is: heads
            may be confident on examples that they have seen and on no others.
        batch_size: Examples in a batch, where `x` are arrays.
        steps: How many batches to use; all by default.

    Returns:
        Layer path to an array with one score from 0 to 1 for each head; NaN where all
        positions are masked.

    Raises:
        ValueError: If no attention layer is found, there is no data, or an argument is out of
            range.

    Source: Voita et al., "Analyzing Multi-Head Self-Attention", 2019, section 4; Behnke &
    Heafield, "Losing Heads in the Lottery", 2020, section 4.

    Example:

    >>> import keras, numpy as np
    >>> inputs = keras.Input((5, 8))
    >>> outputs = keras.layers.MultiHeadAttention(2, 4, name="attention")(inputs, inputs)
    >>> model = keras.Model(inputs, outputs)
    >>> attention_confidence(model, np.ones((3, 5, 8)))["attention"].round(3)
    array([0.2, 0.2])
    """
    integer("batch_size", batch_size)
    keras_model("model", model)
    check_data(x, steps, "steps")
    check_arrays(model, x)
    probe = AttentionProbe(model)
    totals: dict[str, np.ndarray] = {}
    positions: dict[str, int] = {}
    looks_ahead: dict[str, bool] = {}
    batches = 0
    for inputs, weights in itertools.islice(_batches(x, batch_size), steps):
        batches += 1
        found = probe.predict_on_batch(inputs)
        for name, largest, counts, ahead in _calls(found, weights, probe.is_context):
            sums = np.where(counts[:, None, :], largest.astype("float64"), 0.0).sum((0, 2))
            totals[name] = totals.get(name, 0.0) + sums
            positions[name] = positions.get(name, 0) + int(counts.sum())
            looks_ahead[name] = looks_ahead.get(name, False) or ahead
    if not batches:
        raise ValueError("`x` must hold at least one batch. Received: none")
    if not totals:
        reasons = "; ".join(f"{path}: {why}" for path, why in probe.skipped.items())
        raise ValueError(
            "`model` must have attention layers whose probabilities can be read. Received: "
            f"{model.name}, {reasons or 'which has no attention'}"
        )
    kinds = {
        name: "context" if probe.is_context[name] else "encoder" if ahead else "decoder"
        for name, ahead in looks_ahead.items()
    }
    scores = {
        name: totals[name] / positions[name]
        if positions[name]
        else np.full_like(totals[name], np.nan)
        for name in probe.layers_by_name
        if name in totals
    }
    return Confidence(scores, kinds, probe.skipped)


@register_criterion
class AttentionConfidence(Criterion):
    """The criterion `"attention_confidence"`, on held-out data: see `attention_confidence`."""

    name = "attention_confidence"
    needs_data = "what attention is computed on, as a dataset or arrays"
    kinds = ("heads",)

    def try_batch(
        self, model: keras.Model, subject: keras.Model, x: Any, y: Any, weights: Any
    ) -> None:
        """Runs the model."""
        subject(as_tensors(x), training=False)

    def scores(
        self,
        model: keras.Model,
        subject: keras.Model,
        structures: Structures,
        data: Any = None,
        batches: int | None = None,
    ) -> Scores:
        """The confidence of the heads of `subject`; of a tuple `(x, y)` only x is used."""
        data = as_the_layers_take_it(model, data, batches, 32)
        x = data[0] if isinstance(data, tuple) else data
        return attention_confidence(subject, x, steps=batches)


def _calls(found, weights, is_context):
    """The calls of layers in one batch.

    Returns:
        A list of name, largest probability `(B, H, T)`, which positions count `(B, T)`, and whether
        any position may attend to a later one.
    """
    calls = [
        (name, largest, counts.astype(bool), bool(ahead.any()))
        for name, of_layer in found.items()
        for largest, counts, ahead in of_layer
    ]
    of_decoder = [] if weights is None else [np.asarray(weights) > 0]
    # First self-attention of the decoder, then cross-attention, whose queries are its positions.
    for _ in range(2):
        for number, (name, largest, counts, ahead) in enumerate(calls):
            if is_context[name] or not ahead:
                for known in of_decoder:
                    if known.shape == counts.shape:
                        counts = counts & known
                calls[number] = (name, largest, counts, ahead)
        of_decoder = [c for name, _, c, ahead in calls if not is_context[name] and not ahead]
    return calls


def _batches(x, batch_size) -> Iterator[tuple[Any, Any]]:
    """Inputs with weights of positions `(B, T)`, if the data has them."""
    if is_arrays(x):
        number = len(keras.tree.flatten(x)[0])
        starts = range(0, number, batch_size)
        data: Iterable[Any] = ((_rows(x, slice(start, start + batch_size)),) for start in starts)
    else:
        data = each_batch(x)
    for batch in data:
        inputs, _, weights = keras.utils.unpack_x_y_sample_weight(batch)
        by_position = weights is not None and getattr(weights, "ndim", None) == 2
        yield inputs, weights if by_position else None


def _rows(x, rows):
    return keras.tree.map_structure(lambda array: array[rows], x)
