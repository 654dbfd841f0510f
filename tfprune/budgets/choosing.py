"""From scores and a target to the groups that stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from tfprune.budgets.targets import Cost, Target
from tfprune.structures import Structures


def choose(
    target: Target,
    model: keras.Model | None,
    structures: Structures,
    scores: Callable | Mapping[str, np.ndarray],
    within: str = "model",
    per_cost: bool = False,
    round_to: Mapping[str, int] | None = None,
    cost: Cost | None = None,
    progress: float = 1.0,
) -> dict[str, np.ndarray]:
    """The groups that stay when those that score lowest go until a target is met.

    Args:
        target: The target.
        model: The model; `Sparsity` needs none.
        structures: The structures that may be pruned.
        scores: A criterion, or structure name to scores `(groups,)`; higher is more important.
        within: What is compared: `"model"` ranks all groups together; `"kind"` and `"layer"`
            remove the same share of groups from each kind or layer.
        per_cost: Divides each score by the weights of its group.
        round_to: Kind to a number whose multiples are left, such as `{"ffn": 8}`.
        cost: `target.cost(model, structures)`, if it is at hand.
        progress: How much of the way from the whole model to the target is to be gone.

    Returns:
        Structure name to boolean array `(groups,)`, true for the groups that stay; as
        `tfprune.rebuild(model, keep=…)` takes it.

    Raises:
        ValueError: If the target cannot be reached, with the range that can; if a score is NaN or
            an argument is out of range.
    """
    if within not in ("model", "kind", "layer"):
        raise ValueError(f"`within` must be 'model', 'kind' or 'layer'. Received: {within!r}")
    cost = cost or target.cost(model, structures)
    counts = {s.name: s.groups for s in structures}
    limit, full = target.limit, cost(counts)
    least = cost(dict.fromkeys(counts, 0))
    tolerance = 1e-6 * max(full, 1e-12)
    if limit < least - tolerance:
        raise ValueError(
            f"`target` cannot be reached: {target.describe(limit)} was asked for, and with nothing "
            f"left of {len(structures)} structures the model has {target.describe(least)}. It can "
            f"be set from {target.describe(full)} to {target.describe(least)}."
        )
    ranking = _ranked(structures, checked_scores(structures, scores), within, per_cost, round_to)
    limit = full - progress * (full - limit)
    names = [s.name for s in structures]

    def after(number):
        gone = np.bincount(ranking.owner[:number], ranking.size[:number], len(names))
        return {n: counts[n] - int(g) for n, g in zip(names, gone, strict=True)}

    low, high = 0, len(ranking.owner)  # The fewest removals that are enough.
    while low < high:
        middle = (low + high) // 2
        enough = cost(after(middle)) <= limit + tolerance
        low, high = (low, middle) if enough else (middle + 1, high)
    # The last one may overshoot: what follows it in the ranking and is smaller fills the gap.
    slack = 0.005 * (full - least)
    number = max(low - 1, 0) if cost(after(low)) < limit - slack else low
    removed, passed_over, left = list(range(number)), [], after(number)

    def without(block):
        name = names[ranking.owner[block]]
        return {**left, name: left[name] - int(ranking.size[block])}

    for block in range(number, len(ranking.owner)):
        if cost(left) <= limit + tolerance:
            break
        if cost(without(block)) >= limit - slack:
            removed.append(block)
            left = without(block)
        else:
            passed_over.append(block)
    nearest = min(passed_over, key=lambda block: limit - cost(without(block)), default=None)
    if nearest is not None and limit - cost(without(nearest)) < cost(left) - limit:
        removed.append(nearest)
    keep = {s.name: np.ones(s.groups, bool) for s in structures}
    for block in removed:
        keep[names[ranking.owner[block]]][ranking.groups(block)] = False
    return keep


def opening_sizes(
    structures: Structures,
    scores: Callable | Mapping[str, np.ndarray],
    within: str = "model",
    per_cost: bool = False,
    round_to: Mapping[str, int] | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """At which size of the model each group comes in, when the most important come first.

    Args:
        structures: The structures.
        scores: As in `choose`.
        within: As in `choose`.
        per_cost: As in `choose`.
        round_to: As in `choose`; groups of a block come in together.

    Returns:
        Two dictionaries from structure name to arrays `(groups,)`: the share of all weights that
        is there once the group is, `t̂`, and the share that came with it, `δ`.

    Source: Li et al., 2022, section 6.1.
    """
    ranking = _ranked(structures, checked_scores(structures, scores), within, per_cost, round_to)
    group_size = np.array([s.group_size for s in structures], "float64")
    weights = ranking.size * group_size[ranking.owner]
    total = weights.sum()
    # The ranking says what goes first; what goes last comes in first.
    there = np.cumsum(weights[::-1])[::-1] / total
    opens_at = {s.name: np.zeros(s.groups) for s in structures}
    width = {s.name: np.zeros(s.groups) for s in structures}
    for block in range(len(ranking.owner)):
        name, groups = structures[ranking.owner[block]].name, ranking.groups(block)
        opens_at[name][groups] = there[block]
        width[name][groups] = weights[block] / total
    return opens_at, width


def binned(opens_at: np.ndarray, width: np.ndarray, sizes: Sequence[float]):
    """Moves what comes in to the nearest of the sizes, so that at each of them gates are 0 or 1.

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


@dataclass(frozen=True)
class _Ranking:
    """Blocks of groups in the order in which they go.

    A block is a run of groups of one structure, in the order of their scores: one group, or as many
    as `round_to` wants to go together.

    Args:
        owner: The structure of each block, `(blocks,)`.
        start: Where it starts in the order of its structure, `(blocks,)`.
        size: Groups in it, `(blocks,)`.
        orders: The groups of each structure, lowest score first.
    """

    owner: np.ndarray
    start: np.ndarray
    size: np.ndarray
    orders: Sequence[np.ndarray]

    def groups(self, block: int) -> np.ndarray:
        """The numbers of the groups in a block."""
        start = self.start[block]
        return self.orders[self.owner[block]][start : start + self.size[block]]

    def sorted_by(self, keys: np.ndarray) -> _Ranking:
        """The same blocks, lowest key first."""
        order = np.argsort(keys, kind="stable")
        return _Ranking(self.owner[order], self.start[order], self.size[order], self.orders)


def _ranked(structures, scores, within, per_cost, round_to) -> _Ranking:
    """All groups in the order in which they go."""
    sizes = _block_sizes(structures, round_to or {})
    orders, owner, start, size, score = [], [], [], [], []
    for index, (structure, step) in enumerate(zip(structures, sizes, strict=True)):
        value = scores[structure.name] / (structure.group_size if per_cost else 1)
        order = np.argsort(value, kind="stable")
        # What is left must be a multiple of the step, so the first block takes the odd ones.
        first = structure.groups % step or step
        starts = np.concatenate([[0], np.arange(first, structure.groups, step)]).astype(int)
        orders.append(order)
        owner.append(np.full(len(starts), index))
        start.append(starts)
        size.append(np.diff([*starts, structure.groups]))
        score.append(np.add.reduceat(value[order], starts) / size[-1])
    owner, start, size, score = map(np.concatenate, (owner, start, size, score))
    ranking = _Ranking(owner, start, size, orders)
    by_score = np.argsort(score, kind="stable")
    if within == "model":
        return ranking.sorted_by(score)
    kinds = [s.kind for s in structures]
    family = (
        np.array([kinds.index(k) for k in kinds]) if within == "kind" else np.arange(len(kinds))
    )
    member = family[owner]
    share = np.empty(len(owner))  # Of its family that is gone once a block is.
    for one in np.unique(member):
        mine = by_score[member[by_score] == one]
        share[mine] = np.cumsum(size[mine]) / size[mine].sum()
    return ranking.sorted_by(share)


def _block_sizes(structures, round_to) -> list[int]:
    unknown = set(round_to) - set(structures.kinds)
    if unknown:
        raise ValueError(
            f"`round_to` names kinds that are not pruned: {', '.join(sorted(unknown))}. "
            f"Kinds: {', '.join(structures.kinds)}"
        )
    if any(not isinstance(n, int) or n < 1 for n in round_to.values()):
        raise ValueError(f"`round_to` must hold positive integers. Received: {round_to!r}")
    return [round_to.get(s.kind, 1) for s in structures]


def checked_scores(structures: Sequence, scores) -> dict[str, np.ndarray]:
    """The scores of each structure by name, from a criterion or a mapping, as `choose` takes them.

    Raises:
        ValueError: If some are missing, are NaN or have another shape than `(groups,)`.
    """
    checked = {}
    for structure in structures:
        if callable(scores):
            value = scores(structure)
        elif structure.name in scores:
            value = scores[structure.name]
        else:
            raise ValueError(f"`scores` holds none for {structure.name!r}.")
        value = np.asarray(keras.ops.convert_to_numpy(value), "float64")
        if value.shape != (structure.groups,) or np.isnan(value).any():
            raise ValueError(
                f"`scores` must give {structure.groups} numbers for {structure.name!r}. Received: "
                f"shape {value.shape}" + ", with NaN" * bool(np.isnan(value).any())
            )
        checked[structure.name] = value
    return checked
