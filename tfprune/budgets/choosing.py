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

    Where the last group to go overshoots by much, others that make up the difference go or stay in
    its place. The target is met in any case; by how much more depends on the size of the groups.
    On the way there, the nearest choice is taken.

    Args:
        target: The target.
        model: The model; `Sparsity` needs none.
        structures: The structures that may be pruned.
        scores: A criterion, or structure name to scores `(groups,)`; higher is more important.
        within: What is compared: `"model"` ranks all groups together; `"kind"` and `"layer"`
            remove the same share of groups from each kind or layer.
        per_cost: Divides each score by the weights of its group.
        round_to: Kind to a number whose multiples are left, such as `{"ffn": 8}`.
        cost: `target.cost(model, structures)`, if already computed.
        progress: 0 keeps the whole model, 1 meets the target; linear in cost between them.

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
    removal = _Removal(ranking, structures, cost, limit, tolerance, 0.005 * (full - least))
    removed = removal.best(must_meet=progress >= 1)
    return {
        s.name: ranking.groups_left(index, removed[index]) for index, s in enumerate(structures)
    }


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
    # What goes first in the ranking comes in last: its size is that of all that is left without
    # those that go before it.
    gone = np.zeros((len(ranking.owner) + 1, len(structures)))
    gone[np.arange(len(ranking.owner)) + 1, ranking.owner] = ranking.size
    left = np.array([s.groups for s in structures]) - np.cumsum(gone, axis=0)
    there = structures.weights_left({s.name: left[:, i] for i, s in enumerate(structures)})
    there = there / there[0]
    # In a chain, what is left of a group may lie in kernels that its neighbours have emptied.
    came = np.maximum(there[:-1] - there[1:], 1e-6)
    opens_at = {s.name: np.zeros(s.groups) for s in structures}
    width = {s.name: np.zeros(s.groups) for s in structures}
    for block in range(len(ranking.owner)):
        name, groups = structures[ranking.owner[block]].name, ranking.groups(block)
        opens_at[name][groups] = there[block]
        width[name][groups] = came[block]
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
        steps: The multiples of which groups of each structure are to be left.
    """

    owner: np.ndarray
    start: np.ndarray
    size: np.ndarray
    orders: Sequence[np.ndarray]
    steps: Sequence[int]

    def groups(self, block: int) -> np.ndarray:
        """The numbers of the groups in a block."""
        start = self.start[block]
        return self.orders[self.owner[block]][start : start + self.size[block]]

    def groups_left(self, index: int, blocks: int) -> np.ndarray:
        """Which groups of a structure stay when so many of its blocks go, `(groups,)`."""
        order = self.orders[index]
        stay = np.ones(len(order), bool)
        stay[order[: self.gone(index)[blocks]]] = False
        return stay

    def gone(self, index: int) -> np.ndarray:
        """How many groups of a structure go with 0, 1, 2 ... of its blocks."""
        return np.concatenate([[0], np.cumsum(self.size[self.owner == index])])

    def sorted_by(self, keys: np.ndarray) -> _Ranking:
        """The same blocks, lowest key first."""
        order = np.argsort(keys, kind="stable")
        sorted_ = (self.owner[order], self.start[order], self.size[order])
        return _Ranking(*sorted_, self.orders, self.steps)


class _Removal:
    """Looks for the blocks whose removal meets a limit most closely.

    Of each structure the blocks of the lowest scores go, so what goes is one number of blocks for
    each structure, an array `(structures,)` called `taken` below.

    Args:
        ranking: The blocks in the order in which they go.
        structures: The structures.
        cost: What the model costs, by groups left.
        limit: What it may cost.
        tolerance: By how much rounding may let it exceed that.
        slack: How far below the limit is close enough.
    """

    def __init__(self, ranking: _Ranking, structures, cost: Cost, limit, tolerance, slack):
        self.owner = ranking.owner
        self.names = [s.name for s in structures]
        self.left = [s.groups - ranking.gone(i) for i, s in enumerate(structures)]
        self.blocks = np.array([len(left) - 1 for left in self.left])
        # Where the groups are no multiple, the first block makes them one, and stays away.
        steps = zip(structures, ranking.steps, strict=True)
        self.fewest = np.array([s.groups % step > 0 for s, step in steps])
        # The place in the ranking of each block of a structure.
        self.places = [np.flatnonzero(self.owner == i) for i in range(len(structures))]
        self._cost = cost
        self.limit, self.most, self.least = limit, limit + tolerance, limit - slack

    def cost(self, taken: np.ndarray) -> float:
        """What is left costs."""
        left = zip(self.names, self.left, taken, strict=True)
        return self._cost({name: int(each[n]) for name, each, n in left})

    def first(self, number: int) -> np.ndarray:
        """The first blocks of the ranking."""
        return np.bincount(self.owner[:number], minlength=len(self.names))

    def best(self, must_meet: bool) -> np.ndarray:
        """What goes: as little as meets the limit, or what is nearest to it on either side."""
        low, high = 0, len(self.owner)  # The fewest of the ranking that are enough.
        while low < high:
            middle = (low + high) // 2
            enough = self.cost(self.first(middle)) <= self.most
            low, high = (low, middle) if enough else (middle + 1, high)
        taken = self.first(low)
        if self.cost(taken) >= self.least or low == 0:
            return taken
        # The last one overshoots. Either those go instead that come later and are smaller, or some
        # come back that went earlier.
        filled = self._filled_up(self.first(low - 1), low - 1)
        choices = [self._put_back(taken), self._put_back(self._past_the_limit(filled))]
        if not must_meet:
            choices.append(filled)
        return min(choices, key=lambda choice: abs(self.cost(choice) - self.limit))

    def _filled_up(self, taken: np.ndarray, place: int) -> np.ndarray:
        """Removes what comes from that place on and still fits."""
        fits = np.ones(len(self.names), bool)
        while self.cost(taken) > self.most:
            later = np.flatnonzero(fits[self.owner[place:]])
            if not len(later):
                break
            place += later[0] + 1
            index = self.owner[place - 1]
            more = _changed(taken, index, 1)
            if self.cost(more) >= self.least:
                taken = more
            else:
                fits[index] = False
        return taken

    def _past_the_limit(self, taken: np.ndarray) -> np.ndarray:
        """Removes further blocks until the limit is met, by as little as can be."""
        while self.cost(taken) > self.most:
            further = [_changed(taken, i, 1) for i in np.flatnonzero(taken < self.blocks)]
            costs = np.array([self.cost(each) for each in further])
            met = costs <= self.most
            taken = further[int(np.argmax(np.where(met, costs, -np.inf if met.any() else -costs)))]
        return taken

    def _put_back(self, taken: np.ndarray) -> np.ndarray:
        """Takes back what need not go, what is most important first."""
        fits = taken > self.fewest
        while fits.any() and self.cost(taken) < self.least:
            last = [self.places[i][taken[i] - 1] if fits[i] else -1 for i in range(len(taken))]
            index = int(np.argmax(last))
            fewer = _changed(taken, index, -1)
            if self.cost(fewer) <= self.most:
                taken = fewer
            fits[index] = fewer is taken and taken[index] > self.fewest[index]
        return taken


def _changed(taken: np.ndarray, index: int, by: int) -> np.ndarray:
    changed = taken.copy()
    changed[index] += by
    return changed


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
    ranking = _Ranking(owner, start, size, orders, sizes)
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
