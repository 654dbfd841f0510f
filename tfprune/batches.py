"""What fits and criteria need to know about batches of data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations
from typing import Any

import keras


def put_different_shapes_first(batches: list, shape: Callable[[Any], tuple[int, ...]]) -> None:
    """Lets the first two batches differ in every size that is not the same in all.

    Keras takes its input signature from them: what differs stays open, and no later batch of
    another shape is refused or compiled anew. Where no two batches differ in everything, those that
    differ in most come first.

    Args:
        batches: Batches, or what stands for them; rearranged in place.
        shape: All sizes of one of them.
    """
    shapes = [shape(batch) for batch in batches]
    varying = sum(len(set(sizes)) > 1 for sizes in zip(*shapes, strict=True))

    best, most = (), -1
    for pair in combinations(range(len(shapes)), 2):
        if pair[0] >= 50 or most == varying:
            break
        differing = sum(a != b for a, b in zip(*(shapes[i] for i in pair), strict=True))
        if differing > most:
            best, most = pair, differing
    for place, other in enumerate(best):
        batches[place], batches[other] = batches[other], batches[place]


def each_batch(data: Iterable | keras.utils.PyDataset) -> Iterator[Any]:
    """The batches of a dataset, once; a `PyDataset` by itself does not say where it ends."""
    if isinstance(data, keras.utils.PyDataset):
        return (data[i] for i in range(len(data)))
    return iter(data)


def token_lists(tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The ids of each text; KerasHub's tokenizers give a ragged tensor or lists."""
    rows = tokenizer(texts)
    return rows.to_list() if hasattr(rows, "to_list") else [list(row) for row in rows]
