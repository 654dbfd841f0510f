"""Pruning that leaves a subnetwork for each group of examples, such as a language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from tfprune.gates import Subnetworks


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


def prior_over_pairs(names: Sequence[str], families) -> np.ndarray:
    """Which pairs of subnetworks are to differ: all, but for those of one family.

    Args:
        names: The subnetworks.
        families: Families, each a list of names; what is in none is a family of its own.

    Returns:
        P, an array `(names, names)` of 0 (need not differ) and 1.

    Raises:
        ValueError: If a family holds an unknown name.

    Source: Li et al., 2022, section 4.2.1, equation 12.
    """
    prior = np.ones((len(names), len(names)), "float32")
    for family in families or ():
        unknown = {family} if isinstance(family, str) else set(family) - set(names)
        if unknown:
            raise ValueError(
                f"`families` must be lists of names out of {', '.join(map(repr, names))}. "
                f"Received: {families!r}"
            )
        members = [list(names).index(name) for name in family]
        prior[np.ix_(members, members)] = 0.0
    np.fill_diagonal(prior, 0.0)
    return prior


class Diversity(keras.regularizers.Regularizer):
    """`λ ‖P ⊙ (GᵀG) ⊙ (1 − I)‖`: how much the subnetworks have in common.

    G holds the chance of each group of weights to be open in each subnetwork, weighted so that an
    entry of `GᵀG` is the share of all weights that two subnetworks both use, 0 to 1. The norm is
    Frobenius's.

    Args:
        gates: The gates, which have `subnetworks`; λ is the last number of their `pressure`.
        prior: P, as `prior_over_pairs` gives it.

    Source: Li et al., 2022, section 4.2.1, equation 12.
    """

    def __init__(self, gates, prior: np.ndarray):
        self.gates = gates
        self.prior = prior

    def in_common(self):
        """`GᵀG`, a tensor `(names, names)`."""
        total = sum(gate.structure.weights for gate in self.gates)
        each = [g.expected() * (g.structure.group_size / total) ** 0.5 for g in self.gates]
        g = ops.concatenate(each, axis=1)
        return ops.matmul(g, ops.transpose(g))

    def __call__(self, _):
        """The penalty, a scalar."""
        squares = ops.sum(ops.square(self.prior * self.in_common()))
        return self.gates.pressure[4] * ops.sqrt(squares + 1e-12)

    def get_config(self):
        """Nothing: a model saved during training loads without it."""
        return {}


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
