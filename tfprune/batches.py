"""Batches of data: their order, and one pass over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import combinations, count
from typing import Any

import keras

STRUCTURES = (tuple, list, Mapping)
"""What arrays of several inputs may come in."""


def put_different_shapes_first(batches: list, shape: Callable[[Any], tuple[int, ...]]) -> None:
    """Moves two batches to the front that differ in every size that is not the same in all.

    Keras infers the input signature of a `PyDataset` from its first batches: sizes that differ in
    them stay unknown, so that later batches of other shapes are neither refused nor compiled again.
    Where no two batches differ in every such size, those that differ in most come first.

    Args:
        batches: Batches, or descriptions of them; rearranged in place.
        shape: A function from an element of `batches` to all of its sizes.

    Example:

    >>> lengths = [3, 3, 5]
    >>> put_different_shapes_first(lengths, lambda length: (length,))
    >>> lengths
    [3, 5, 3]
    """
    shapes = [shape(batch) for batch in batches]
    varying = sum(len(set(sizes)) > 1 for sizes in zip(*shapes, strict=True))

    best: tuple[int, ...] = ()
    most = -1
    for pair in combinations(range(len(shapes)), 2):
        if pair[0] >= 50 or most == varying:
            break
        differing = sum(a != b for a, b in zip(*(shapes[i] for i in pair), strict=True))
        if differing > most:
            best, most = pair, differing
    for place, other in enumerate(best):
        batches[place], batches[other] = batches[other], batches[place]


def each_batch(data: Iterable | keras.utils.PyDataset) -> Iterator[Any]:
    """The batches of a dataset, once; an iterator over a `PyDataset` itself would never end.

    Args:
        data: An iterable of batches, such as a `tf.data.Dataset`, or a `PyDataset`.
    """
    if isinstance(data, keras.utils.PyDataset):
        # One that does not tell its length has no end.
        numbers = count() if data.num_batches is None else range(data.num_batches)
        return (data[i] for i in numbers)
    return iter(data)


def no_arrays(data: Any) -> str | None:
    """What was given, in words, if it holds something else than arrays; otherwise `None`.

    Args:
        data: What should be arrays with examples along the first axis, or a structure of them.
    """
    found = _no_array(data)
    kind = type(data).__name__
    return found and (f"{kind} that holds {found}" if isinstance(data, STRUCTURES) else found)


def _no_array(data):
    """The type of the first part that is no array, `None` if there is none."""
    if not isinstance(data, STRUCTURES):
        is_array = data is None or len(getattr(data, "shape", ())) > 0
        return None if is_array else type(data).__name__
    parts = data.values() if isinstance(data, Mapping) else data
    return next((found for part in parts if (found := _no_array(part))), None)
