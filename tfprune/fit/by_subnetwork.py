"""Data for pruning that leaves several subnetworks, such as one for each language."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.arguments import number
from tfprune.batches import each_batch, put_different_shapes_first
from tfprune.gates import Subnetworks
from tfprune.gates.gate_penalties import prior_over_pairs


def subnetworks_and_prior(names, entry: str, diversity: float, families, distance=None):
    """Reads the arguments of a callback that are about subnetworks.

    Args:
        names: Names of the subnetworks, or `None`.
        entry: The entry of `x` that holds numbers of subnetworks.
        diversity: λ of `Diversity`.
        families: As in `prior_over_pairs`.
        distance: The distance at which `Diversity` ends, or `None`.

    Returns:
        `Subnetworks`, and P of `Diversity`; twice `None` where there are none.

    Raises:
        ValueError: If an argument is out of range, or makes no sense without another.
    """
    number("diversity", diversity, least=0)
    number("distance", distance, above=0, most=1, optional=True)
    if distance is not None and not diversity:
        raise ValueError(
            "`distance` says where `diversity` ends, which must be above 0. Received: "
            f"distance={distance!r}, diversity={diversity!r}"
        )
    if names is None:
        if diversity or families:
            raise ValueError("`diversity` and `families` need `subnetworks`, which is not given.")
        return None, None
    return Subnetworks(names, entry), prior_over_pairs(tuple(names), families)


def check_subnetworks_in(data: Any, subnetworks: Subnetworks) -> None:
    """Refuses data that cannot be told apart, as far as a look at arrays or the first batch shows.

    Args:
        data: As in `examples_by_subnetwork`.
        subnetworks: As there.

    Raises:
        ValueError: As there; that examples are missing is seen in arrays alone.
    """
    if isinstance(data, tuple):
        _refuse_missing(_apart(data, subnetworks), subnetworks)
    elif not hasattr(data, "__next__"):  # A look at a generator would use its first batch up.
        for batch in itertools.islice(each_batch(data), 1):
            _apart(tree.map_structure(np.asarray, batch), subnetworks)


def examples_by_subnetwork(
    data: Any, subnetworks: Subnetworks, batches: int | None = None
) -> dict[str, Any]:
    """The examples of each subnetwork.

    Args:
        data: A dataset of batches `(x, y)` or `(x, y, sample_weight)`, or such a tuple of arrays,
            where `x` holds the number of each example's subnetwork.
        subnetworks: Which entry of `x` that is, and which names there are.
        batches: How many batches of a dataset to use; `None` means all, which must then end.

    Returns:
        Name to a dataset of batches as large as those of `data`, or to a tuple of arrays.

    Raises:
        ValueError: If `x` holds no such entry, or none of the examples belongs to some subnetwork.
    """
    if isinstance(data, tuple):
        parts = _apart(data, subnetworks)
        _refuse_missing(parts, subnetworks)
        return parts
    # Batches of other lengths do not go together.
    pools: dict[str, dict[Any, list]] = {}
    largest = 1
    for batch in itertools.islice(each_batch(data), batches):
        batch = tree.map_structure(np.asarray, batch)
        largest = max(largest, len(tree.flatten(batch)[0]))
        for name, mine in _apart(batch, subnetworks).items():
            shape = tuple(part.shape[1:] for part in tree.flatten(mine))
            pools.setdefault(name, {}).setdefault(shape, []).append(mine)
    _refuse_missing(pools, subnetworks)
    return {
        name: _Batches([b for pool in pools[name].values() for b in _regrouped(pool, largest)])
        for name in subnetworks.names
    }


def _apart(batch, subnetworks):
    """Name to the rows of a batch, or of a tuple of arrays, that are of this group, if any."""
    x = batch[0] if isinstance(batch, (tuple, list)) else batch
    if not isinstance(x, Mapping) or subnetworks.entry not in x:
        found = ", ".join(map(repr, x)) if isinstance(x, Mapping) else type(x).__name__
        raise ValueError(
            "With `subnetworks`, `data` must tell examples apart by an entry "
            f"{subnetworks.entry!r} of x. Received: {found}"
        )
    numbers = np.asarray(x[subnetworks.entry]).reshape(-1)
    return {
        name: tree.map_structure(lambda part, i=i: np.asarray(part)[numbers == i], batch)
        for i, name in enumerate(subnetworks.names)
        if np.any(numbers == i)
    }


def _refuse_missing(found, subnetworks):
    for name in subnetworks.names:
        if name not in found:
            raise ValueError(f"`data` holds no example of {name!r}, so it cannot be ranked for it.")


def _regrouped(pool, size):
    whole = tree.map_structure(lambda *parts: np.concatenate(parts), *pool)
    number = len(tree.flatten(whole)[0])
    for start in range(0, number, size):
        yield tree.map_structure(lambda part, s=start: part[s : s + size], whole)


def _sizes(batch):
    return sum((part.shape for part in tree.flatten(batch)), ())


class _Batches(keras.utils.PyDataset):
    """Batches that are held in memory."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches
        put_different_shapes_first(batches, _sizes)

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]
