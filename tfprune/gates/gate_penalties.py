"""Penalties on gates: on the size they leave, on their scores, on what subnetworks share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from keras import ops


class SizePenalty:
    """A penalty on the expected size of all gates.

    Each gate counts in proportion to the weights of its group: a head of size k as 4k, a unit as 2,
    as in Li et al.

    Args:
        gates: The gates, with their `penalty_values`.
        size: From the expected number of open groups of each structure to a size.
        kind: `"size"`: strength times size. `"l1"`: strength times the distance of the size from
            the limit. `"lagrangian"`: the distance times the multiplier, and half its square times
            the strength. Of several subnetworks each has its own distance, and the sum counts.

    Source: Li et al., 2022, section 3 and equation 11; Wang et al., 2020, equation 6.
    """

    def __init__(self, gates, size: Callable, kind: str):
        self.gates = gates
        self.size = size
        self.kind = kind

    def expected_size(self):
        """The size of what is likely to be open: a scalar, or one number for each subnetwork."""
        return self.size({g.structure.name: ops.sum(g.expected(), axis=-1) for g in self.gates})

    def __call__(self):
        """The penalty, a scalar."""
        values = self.gates.penalty_values
        size = self.expected_size()
        if self.kind == "size":
            return values.strength * ops.sum(size)
        gap = (size - values.limit) / ops.maximum(values.span, 1e-12)
        if self.kind == "l1":
            return values.strength * ops.sum(ops.abs(gap))
        return ops.sum(values.multiplier * gap + 0.5 * values.strength * ops.square(gap))


class SizeGap:
    """`λ Σ |expected size - t|`, over subnetworks, with t the size of the present step.

    Args:
        gates: The gates; λ is the strength of their `penalty_values`.
        size: What holds t.
        share: From the expected number of open groups of each structure to a share of the weights.

    Source: Li et al., 2022, section 4.2.1, equation 11.
    """

    def __init__(self, gates, size, share: Callable):
        self.gates = gates
        self.size = size
        self.share = share

    def __call__(self):
        """The penalty, a scalar."""
        counts = {g.structure.name: ops.sum(g.expected(), axis=-1) for g in self.gates}
        gap = self.share(counts) - ops.convert_to_tensor(self.size.size)
        return self.gates.penalty_values.strength * ops.sum(ops.abs(gap))


class ScorePenalty:
    """`λ · w · mean σ(S)` over the scores of one gate.

    Args:
        gate: The gate.
        strengths: Variable `(structures,)` that holds the present λ of each structure.
        place: The structure's place in it.
        share: w: what the gate counts among all gates. One over the number of kinds, and over the
            gates of its kind, in the authors' code.

    Source: Lagunas et al., 2021, section 3.2, and its code, huggingface/nn_pruning.
    """

    def __init__(self, gate, strengths, place, share: float = 1.0):
        self.gate = gate
        self.strengths = strengths
        self.place = place
        self.share = share

    def __call__(self):
        """The penalty, a scalar."""
        return self.strengths[self.place] * self.share * ops.mean(self.gate.expected())


class Diversity:
    """`λ ‖P ⊙ (GᵀG) ⊙ (1 − I)‖`: how much the subnetworks have in common.

    G holds the chance of each group of weights to be open in each subnetwork, weighted so that an
    entry of `GᵀG` is the share of all weights that two subnetworks both use, 0 to 1. The norm is
    Frobenius's.

    Args:
        gates: The gates, which have `subnetworks`; λ is the diversity of their `penalty_values`.
        prior: P, as `prior_over_pairs` gives it.
        wanted: The mean Hamming distance, 0 to 1, at which the penalty ends: `strength` then falls
            to zero on the way there. `None`: it stays.

    Source: Li et al., 2022, section 4.2.1, equation 12; the distance as in appendix E, where it is
    0.3 for the languages that differ most. That the penalty ends is not the paper's.
    """

    def __init__(self, gates, prior: np.ndarray, wanted: float | None = None):
        self.gates = gates
        self.prior = prior
        self.wanted = wanted

    def strength(self, most: float) -> float:
        """λ at present: `most · max(0, 1 − distance / wanted)`.

        Args:
            most: λ of networks that are all the same.
        """
        if self.wanted is None or not most:
            return most
        return most * max(0.0, 1.0 - self.distance() / self.wanted)

    def distance(self) -> float:
        """The mean Hamming distance between the networks of different families.

        It is the share of the weights that one of two networks has and the other has not, each
        being its likeliest groups up to its expected size. 1 if all are of one family.
        """
        chances = np.concatenate([ops.convert_to_numpy(g.expected()) for g in self.gates], axis=1)
        counts = [(g.structure.group_size, g.structure.groups) for g in self.gates]
        weights = np.concatenate([np.full(groups, size, "float64") for size, groups in counts])
        weights /= weights.sum()
        networks = np.zeros(chances.shape, bool)
        for network, chance in zip(networks, chances, strict=True):
            order = np.argsort(-chance, kind="stable")
            # A group is in if at least half of it fits.
            middle = np.cumsum(weights[order]) - weights[order] / 2
            network[order] = middle <= weights @ chance
        distances = (networks[:, None] != networks[None]) @ weights
        apart = self.prior > 0
        return float(distances[apart].mean()) if apart.any() else 1.0

    def in_common(self):
        """`GᵀG`, a tensor `(names, names)`."""
        total = sum(gate.structure.weights for gate in self.gates)
        each = [g.expected() * (g.structure.group_size / total) ** 0.5 for g in self.gates]
        g = ops.concatenate(each, axis=1)
        return ops.matmul(g, ops.transpose(g))

    def __call__(self):
        """The penalty, a scalar."""
        squares = ops.sum(ops.square(self.prior * self.in_common()))
        return self.gates.penalty_values.diversity * ops.sqrt(squares + 1e-12)


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
    try:
        fits = all(not isinstance(f, str) and set(f) <= set(names) for f in families or ())
    except TypeError:
        fits = False
    if not fits:
        raise ValueError(
            f"`families` must be lists of names out of {', '.join(map(repr, names))}. Received: "
            f"families={families!r}"
        )
    for family in families or ():
        members = [list(names).index(name) for name in family]
        prior[np.ix_(members, members)] = 0.0
    np.fill_diagonal(prior, 0.0)
    return prior
