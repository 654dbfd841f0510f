"""From scores to the size of the model from which on each group is part of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tfprune.budgets.ranking import ranked
from tfprune.structures import Structures


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
        within: As in `choose`.
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
    added = np.maximum(share[:-1] - share[1:], 1e-6)
    opens_at = {s.name: np.zeros(s.groups) for s in structures}
    width = {s.name: np.zeros(s.groups) for s in structures}
    for block in range(len(ranking.owner)):
        name, groups = structures[ranking.owner[block]].name, ranking.groups(block)
        opens_at[name][groups] = share[block]
        width[name][groups] = added[block]
    return opens_at, width


def binned(opens_at: np.ndarray, width: np.ndarray, sizes: Sequence[float]):
    """Moves opening sizes to given sizes, so that at each of those every gate is 0 or 1.

    A gate opens between two sizes rather than at one, so that rounding cannot half close it.

    Args:
        opens_at: `(groups,)`, `t̂`.
        width: `(groups,)`, δ.
        sizes: The sizes, largest first.

    Returns:
        `t̂` and δ, moved.
    """
    edges = np.array([*sizes, 0.0])
    # A group belongs to a size if at least half of it fits: the size is met on average.
    middle = opens_at - width / 2
    place = np.array([np.count_nonzero(edges[:-1] >= m) - 1 for m in middle])
    gap = edges[place] - edges[place + 1]
    # What is beyond the largest size is there at none.
    never = place < 0
    opens_at = np.where(never, 2.0, edges[place] - gap / 4)
    return opens_at, np.where(never, 0.5, np.minimum(width, gap / 2))
