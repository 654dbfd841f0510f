"""Translation probabilities of pieces, learned from sentence pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

# Pairs of pieces that are sorted at once; it bounds the memory of the sorting.
_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class TranslationTable:
    """The translation probabilities of pieces that occur together, sorted by source, then target.

    Args:
        source: Ids `(entries,)`.
        target: Ids `(entries,)`.
        probability: `p(target | source)`, `(entries,)`; those of one source piece add up to 1.
    """

    source: np.ndarray
    target: np.ndarray
    probability: np.ndarray


def ibm_model_1(
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]], iterations: int = 5
) -> TranslationTable:
    """Estimates translation probabilities by expectation maximization.

    In each iteration the expected count of a target piece `t` as the translation of a source piece
    `s` is the sum, over all sentence pairs and all places of `t` and of `s` in them, of

        p(t | s) / Σᵢ p(t | sᵢ),

    `sᵢ` the source pieces of that pair. The new `p(t | s)` are these counts, divided by their sum
    over `t`. The first `p` is uniform.

    Args:
        pairs: Ids of source and target, at least one pair; no side is empty. Each pair takes four
            bytes times the product of the two lengths.
        iterations: How often probabilities are estimated anew.

    Returns:
        The probabilities.

    Source: Brown et al., "The Mathematics of Statistical Machine Translation: Parameter
    Estimation", 1993, section 4.1 (Model 1), without the empty word.

    Example:

    >>> table = ibm_model_1([([5, 6], [7, 8]), ([5], [7])], iterations=20)
    >>> table.source[table.probability > 0.9], table.target[table.probability > 0.9]
    (array([5, 6]), array([7, 8]))
    """
    arrays = [(np.asarray(s, "int64"), np.asarray(t, "int64")) for s, t in pairs]
    width = 1 + max(int(target.max()) for _, target in arrays)
    parts = list(_parts(arrays))
    # Only what occurs together has an entry: all pieces by all would be gigabytes.
    keys, entries = _numbered(_keys(part, width) for part in parts)
    places = [_places(part) for part in parts]
    source = keys // width
    probability = np.ones(len(keys))
    for _ in range(iterations):
        counts = np.zeros(len(keys))
        for entry, (start, length) in zip(entries, places, strict=True):
            share = probability[entry]
            share /= np.repeat(np.add.reduceat(share, start), length)
            counts += np.bincount(entry, share, len(keys))
        probability = counts / np.bincount(source, counts)[source]
    return TranslationTable(source, keys % width, probability)


def _parts(pairs) -> Iterator[list]:
    """The pairs, in parts of about `_AT_ONCE` pairs of pieces."""
    part: list = []
    size = 0
    for source, target in pairs:
        if part and size + len(source) * len(target) > _AT_ONCE:
            yield part
            part, size = [], 0
        part.append((source, target))
        size += len(source) * len(target)
    yield part


def _keys(part, width):
    """One number for each pair of pieces; those of one target piece are neighbours."""
    return np.concatenate([np.add.outer(t, s * width).ravel() for s, t in part])


def _places(part):
    """For each target piece where its pairs with the source begin, and how many there are."""
    length = np.concatenate([np.full(len(t), len(s)) for s, t in part])
    return np.cumsum(length) - length, length


def _numbered(parts):
    """The different numbers of all parts, in order, and for each part their indices."""
    uniques, indices = [], []
    for part in parts:
        unique, index = np.unique(part, return_inverse=True)
        uniques.append(unique)
        indices.append(index.astype("int32"))
    keys = np.unique(np.concatenate(uniques))
    return keys, [
        np.searchsorted(keys, unique).astype("int32")[index]
        for unique, index in zip(uniques, indices, strict=True)
    ]
