"""Sentences as ids; needs neither Keras nor TensorFlow."""

from __future__ import annotations

import numpy as np

from tfprune.translation.vocabulary import Vocabulary
from tfprune.user_warnings import warn


def as_list(sentences) -> list[str]:
    """Sentences as a list, also a single one.

    Raises:
        ValueError: If they are neither text nor a sequence of it.
    """
    if isinstance(sentences, str):
        return [sentences]
    try:
        sentences = list(sentences)
    except TypeError:
        sentences = [sentences]
    wrong = next((s for s in sentences if not isinstance(s, str)), "")
    if not isinstance(wrong, str):
        raise ValueError(f"`sentences` must hold text. Received: {wrong!r}")
    return sentences


def encode_sources(sentences, vocabulary, max_length) -> list[list[int]]:
    """Source ids with the end id; an empty list for an empty sentence."""
    encoded = vocabulary.encode_all([s.strip() for s in sentences])
    long = sum(len(ids) >= max_length for ids in encoded)
    if long:
        warn(
            f"{long} of {len(encoded)} sentences have more than {max_length - 1} tokens and are "
            "cut. Split them, or make the Translator with a larger `max_length`.",
        )
    end = vocabulary.end_id
    return [[*ids[: max_length - 1], end] if ids else [] for ids in encoded]


def padded(sequences, rows: int | None = None, multiple: int = 8) -> np.ndarray:
    """Ids in an array of few different shapes, `(rows, length)`."""
    length = -(-max(len(s) for s in sequences) // multiple) * multiple
    array = np.zeros((rows or len(sequences), length), "int32")
    array[len(sequences) :, 0] = Vocabulary.end_id
    for row, sequence in zip(array, sequences, strict=False):
        row[: len(sequence)] = sequence
    return array
