"""Groups that stay where some structures are scored by one criterion and the rest by another."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tfprune.budgets.choosing import choose
from tfprune.budgets.ranking import checked_scores
from tfprune.budgets.targets import Cost, Target
from tfprune.criteria.criterion import Scores
from tfprune.structures import Structures


def choose_by_two(
    target: Target,
    structures: Structures,
    scores: Scores,
    others: Structures,
    other_scores: Scores,
    within: str,
    per_cost: bool,
    round_to: Mapping[str, int] | None,
    cost: Cost,
) -> dict[str, np.ndarray]:
    """As `choose`, for structures of which some have scores of another criterion.

    Scores of two criteria cannot be ranked against one another. So each of the others loses what
    it would lose if all structures lost the same share, and the rest is chosen beside that, as
    `within` says, until the target is met.

    Args:
        target: As in `choose`.
        structures: All structures.
        scores: Scores of those that are not among the others, of which there is at least one.
        others: The structures of another criterion.
        other_scores: Their scores.
        within: As in `choose`, for what is not among the others.
        per_cost: As in `choose`.
        round_to: As in `choose`.
        cost: What the model costs, by groups left of all structures.

    Returns:
        As `choose`, for all structures.

    Raises:
        ValueError: As `choose`.
    """
    mine = Structures([s for s in structures if s.name not in others])
    scores = checked_scores(mine, scores)
    apart = {**scores, **checked_scores(others, other_scores)}
    keep = choose(target, None, structures, apart, "layer", per_cost, round_to, cost)
    if within == "layer":
        return keep
    left = {s.name: int(keep[s.name].sum()) for s in others}
    round_to = {kind: n for kind, n in (round_to or {}).items() if kind in mine.kinds}
    return keep | choose(
        target,
        None,
        mine,
        scores,
        within,
        per_cost,
        round_to,
        lambda counts: cost({**counts, **left}),
    )
