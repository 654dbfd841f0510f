"""From scores to the size of the model from which on each group is part of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tfprune.budgets.ranking import ranked
from tfprune.structures import Structures

_LEAST = 1e-6  # Gates divide by widths.


def opening_sizes(
    structures: Structures,
    scores: Callable | Mapping[str, np.ndarray],
    within: str = "model",
    per_cost: bool = False,
    round_to: Mapping[str, int] | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The smallest size of the model with each group, when the most important are added first.

    Args:
        structures: The structures.
        scores: As in `choose`.
        within: As in `choose`, but for `"error"`, which gives no order.
        per_cost: As in `choose`.
        round_to: As in `choose`; groups of a block are added together.

    Returns:
        Two dictionaries from structure name to arrays `(groups,)`: `t̂`, the size of the model with
        the group, as a share of all weights, and `δ`, by how much the group increases it.

    Source: Li et al., 2022, section 6.1.
    """
    ranking = ranked(structures, scores, within, per_cost, round_to)
    # The first in the ranking is removed first, so it is added last. The size with a block is that
    # of the model without the blocks before it.
    removed = np.zeros((len(ranking.owner) + 1, len(structures)))
    removed[np.arange(len(ranking.owner)) + 1, ranking.owner] = ranking.size
    left = np.array([s.groups for s in structures]) - np.cumsum(removed, axis=0)
    share = structures.weights_left({s.name: left[:, i] for i, s in enumerate(structures)})
    share = share / share[0]
    # In a chain, what is left of a group may lie in kernels that its neighbours have emptied.
    added = np.maximum(share[:-1] - share[1:], _LEAST)
    # What is in no block is part of the model at every size.
    opens_at = {s.name: np.zeros(s.groups) for s in structures}
    width = {s.name: np.full(s.groups, _LEAST) for s in structures}
    for block in range(len(ranking.owner)):
        name, groups = structures[ranking.owner[block]].name, ranking.groups(block)
        opens_at[name][groups] = share[block]
        width[name][groups] = added[block]
    return opens_at, width


def binned(
    opens_at: np.ndarray, width: np.ndarray, sizes: Sequence[float], trained: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Moves opening sizes to given sizes, so that at each of those every gate is 0 or 1.

    Each group gets the smallest of the sizes that contains it as its `t̂`; what is in none of them
    gets 1. At the next smaller size it is closed, so δ is at most 3/4 of the gap between the two:
    the last quarter keeps rounding from opening a gate a little.

    Args:
        opens_at: `(groups,)`, `t̂`.
        width: `(groups,)`, δ.
        sizes: The sizes, largest first.
        trained: Whether the gates are trained. δ is then 3/4 of the gap for every group. In a real
            model the share of one group is far smaller than the gap, and with a slope of `1 / δ` a
            gate would have a gradient at its own size alone: it could close there, and never open
            at a smaller one.

    Returns:
        `t̂` and δ, moved.

    Source: Li et al., 2022, appendix D; the slope of trained gates is not the paper's.
    """
    edges = np.unique([0.0, *sizes, 1.0])
    # A group belongs to a size if at least half of it fits: the size is met on average.
    middle = opens_at - width / 2
    place = np.clip(np.searchsorted(edges, middle), 1, len(edges) - 1)
    widest = 0.75 * (edges[place] - edges[place - 1])
    if trained:
        return edges[place], widest
    return edges[place], np.clip(width, None, widest)
