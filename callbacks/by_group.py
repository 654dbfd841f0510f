"""Pruning that leaves a subnetwork for each group of examples, such as a language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.gates import Subnetworks
from tfprune.gates.penalties import prior_over_pairs


def asked_for(groups, entry: str, diversity: float, families):
    """What the arguments of a callback that are about groups of examples mean.

    Args:
        groups: Names, or `None`.
        entry: The entry of `x` that holds numbers of groups.
        diversity: λ of `Diversity`.
        families: As in `prior_over_pairs`.

    Returns:
        `Subnetworks`, and P of `Diversity`; twice `None` where there are no groups.

    Raises:
        ValueError: If an argument is out of range, or makes no sense without another.
    """
    if not diversity >= 0:
        raise ValueError(f"`diversity` must be 0 or more. Received: diversity={diversity!r}")
    if groups is None:
        if diversity or families:
            raise ValueError("`diversity` and `families` are about `groups`, which is not given.")
        return None, None
    return Subnetworks(groups, entry), prior_over_pairs(tuple(groups), families)


def examples_of(data: Any, subnetworks: Subnetworks, name: str) -> Any:
    """The examples of one group.

    Args:
        data: A dataset of batches `(x, y)` or `(x, y, sample_weight)`, or such a tuple of arrays,
            where `x` holds the number of each example's group.
        subnetworks: Which entry of `x` that is, and which names there are.
        name: The group.

    Returns:
        A dataset of batches as large as those of `data`, or a tuple of arrays.

    Raises:
        ValueError: If `x` holds no such entry, or none of the examples is of this group.
    """
    number = subnetworks.names.index(name)
    if isinstance(data, tuple):
        rows = _rows(data, subnetworks, number)
        _refuse_none(len(rows), name)
        return _taken(data, rows)
    pools: dict[Any, list] = {}
    largest = 1
    for index in range(len(data)) if isinstance(data, keras.utils.PyDataset) else [None]:
        batches = data if index is None else [data[index]]
        for batch in batches:
            batch = tree.map_structure(np.asarray, batch)
            largest = max(largest, len(tree.flatten(batch)[0]))
            rows = _rows(batch, subnetworks, number)
            if len(rows):
                mine = _taken(batch, rows)
                # Batches of other lengths do not go together.
                shape = tuple(part.shape[1:] for part in tree.flatten(mine))
                pools.setdefault(shape, []).append(mine)
    _refuse_none(len(pools), name)
    return _Batches([b for pool in pools.values() for b in _regrouped(pool, largest)])


def _rows(batch, subnetworks, number):
    x = batch[0] if isinstance(batch, (tuple, list)) else batch
    if not isinstance(x, Mapping) or subnetworks.entry not in x:
        found = ", ".join(map(repr, x)) if isinstance(x, Mapping) else type(x).__name__
        raise ValueError(
            f"With `groups`, `data` must tell examples apart by an entry {subnetworks.entry!r} of "
            f"x. Received: {found}"
        )
    return np.flatnonzero(np.asarray(x[subnetworks.entry]).reshape(-1) == number)


def _taken(batch, rows):
    return tree.map_structure(lambda part: np.asarray(part)[rows], batch)


def _refuse_none(number, name):
    if not number:
        raise ValueError(f"`data` holds no example of {name!r}, so it cannot be ranked for it.")


def _regrouped(pool, size):
    whole = tree.map_structure(lambda *parts: np.concatenate(parts), *pool)
    number = len(tree.flatten(whole)[0])
    for start in range(0, number, size):
        yield tree.map_structure(lambda part, s=start: part[s : s + size], whole)


class _Batches(keras.utils.PyDataset):
    """Batches that are at hand."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]
