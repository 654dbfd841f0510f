"""Batches of sentence pairs of similar length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfprune.arguments import integer, one_of
from tfprune.datasets.bucketed import Bucketed, padded_to
from tfprune.datasets.parallel import Pair
from tfprune.translation.vocabulary import Vocabulary


class IdBatches(Bucketed):
    """Sentences that are ids already, in batches of about the same number of tokens.

    Args:
        examples: For each sentence the ids of its source, of what the decoder reads, and of what it
            is to write, the last two of the same length.
        tokens_per_batch: As in `Batches`.
        length_multiple: As in `Batches`.
        bucket_by: As in `Batches`.
        **options: Arguments of `Bucketed`.

    Yields:
        As `Batches`.
    """

    def __init__(
        self,
        examples: Sequence[tuple[Sequence[int], Sequence[int], Sequence[int]]],
        tokens_per_batch: int = 3000,
        length_multiple: int = 8,
        bucket_by: str = "longer",
        **options: Any,
    ):
        one_of("bucket_by", bucket_by, ("longer", "both"))
        self._examples = examples
        self.length_multiple = length_multiple
        lengths: list[tuple[int, ...]] = [
            (self._length([s]), self._length([t])) for s, t, _ in examples
        ]
        if bucket_by == "longer":
            lengths = [(max(both),) for both in lengths]
        super().__init__(lengths, lambda n: max(tokens_per_batch // n, 1), **options)

    @property
    def words(self) -> int:
        """Target tokens in one epoch, the end of each sentence counted."""
        return sum(len(labels) for _, _, labels in self._examples)

    def __getitem__(self, index):
        chosen = [self._examples[i] for i in self.numbers(index)]
        source = self._padded([s for s, _, _ in chosen])
        target = self._padded([t for _, t, _ in chosen])
        labels = self._padded([y for _, _, y in chosen])
        return {"source": source, "target": target}, labels, (labels != 0).astype("float32")

    def _length(self, sequences) -> int:
        return padded_to(self.length_multiple, max(len(s) for s in sequences))

    def _padded(self, sequences):
        array = np.zeros((len(sequences), self._length(sequences)), "int32")
        for row, sequence in zip(array, sequences, strict=True):
            row[: len(sequence)] = sequence
        return array

    def shape(self, numbers: Sequence[int]) -> tuple[int, int, int]:
        """Sentences, tokens of the source, tokens of the target."""
        examples = [self._examples[i] for i in numbers]
        return (
            len(numbers),
            self._length([s for s, _, _ in examples]),
            self._length([t for _, t, _ in examples]),
        )


class Batches(IdBatches):
    """Sentence pairs in batches of about the same number of tokens.

    Lengths are padded to a multiple of 8, so that few shapes occur and a compiled step is reused.
    Each epoch has its own order, which depends on the seed and the number of the epoch alone.

    Args:
        pairs: Sentence pairs.
        vocabulary: Shared vocabulary.
        tokens_per_batch: Tokens in a batch, padding and the longer side counted.
        max_length: Longer pairs are left out, in tokens.
        shuffle: Whether the order changes with each epoch.
        seed: Seed of the order.
        initial_epoch: The first epoch's number, when training is resumed.
        length_multiple: Lengths are padded to a multiple of it.
        bucket_by: What the pairs of a batch have in common. `"longer"`: the padded length of the
            longer side, which gives few shapes, each of which is compiled once. `"both"`: the
            padded lengths of source and target, with less padding; for steps that are not compiled
            for each shape (TensorFlow without XLA). What is left over of a length joins its
            neighbours.

    Yields:
        `({"source": (B, S), "target": (B, T)}, labels (B, T), weights (B, T))`. The source ends
        with the end id, the target starts with the start id, labels end with the end id; weights
        are 0 on padding.

    Raises:
        ValueError: If no pair is left or a number is out of range.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        vocabulary: Vocabulary,
        tokens_per_batch: int = 3000,
        max_length: int = 64,
        shuffle: bool = True,
        seed: int = 0,
        initial_epoch: int = 0,
        length_multiple: int = 8,
        bucket_by: str = "longer",
        **kwargs: Any,
    ):
        integer("tokens_per_batch", tokens_per_batch)
        integer("max_length", max_length, least=2)
        integer("length_multiple", length_multiple)
        if tokens_per_batch < max_length:
            raise ValueError(
                "`tokens_per_batch` must be at least `max_length`. Received: "
                f"tokens_per_batch={tokens_per_batch}, max_length={max_length}"
            )
        sources = vocabulary.encode_all([s for s, _ in pairs])
        targets = vocabulary.encode_all([t for _, t in pairs])
        end, start = vocabulary.end_id, vocabulary.start_id
        examples = [
            ([*s, end], [start, *t], [*t, end])
            for s, t in zip(sources, targets, strict=True)
            if s and t and max(len(s), len(t)) < max_length
        ]
        if not examples:
            raise ValueError(
                f"`pairs` must hold at least one pair of 1 to {max_length - 1} tokens. "
                f"Received: {len(pairs)} pairs, none of which fits."
            )
        super().__init__(
            examples,
            tokens_per_batch,
            length_multiple,
            bucket_by,
            shuffle=shuffle,
            seed=seed,
            initial_epoch=initial_epoch,
            **kwargs,
        )


def batches(pairs: Sequence[Pair], vocabulary: Vocabulary, **options: Any) -> Batches:
    """Batches of sentence pairs of similar length; see `Batches`."""
    return Batches(pairs, vocabulary, **options)
