"""From scores and a target to the groups that stay."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfprune.arguments import one_of
from tfprune.budgets.ranking import Ranking, checked_scores, ranked
from tfprune.budgets.targets import Cost, Flops, Latency, Target
from tfprune.budgets.widths import changed, least_error, put_back
from tfprune.criteria.criterion import Criterion
from tfprune.structures import Structures, find_structures

WITHIN = ("model", "kind", "layer", "error")
"""What can be compared, see `choose`."""


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
    """The groups that stay when those with the lowest scores are removed until a target is met.

    Where the last group is so large that its removal overshoots the target, smaller ones of higher
    score are removed in its place, or groups that were removed before it are kept. The target is
    always met, as closely as the sizes of the groups allow. With `progress` below 1 the closest
    choice is taken, above or below.

    Args:
        target: The target.
        model: The model; `Sparsity` needs none.
        structures: The structures that may be pruned.
        scores: A criterion, or structure name to scores `(groups,)`; higher is more important.
        within: What is compared: `"model"` ranks all groups together; `"kind"` and `"layer"`
            remove the same share of groups from each kind or layer. `"error"` ranks no groups of
            different structures: each structure loses as many as make the sum of all errors least,
            by dynamic programming over the cost (`tfprune.budgets.widths.least_error`). The error
            of a structure is the sum of the scores of its groups that go, and where it cannot go as
            a whole, by the share of that sum that is left (`StructureScores.errors`); for
            `"reconstruction"`, whose scores are errors of all that has gone so far, the highest of
            them; both times what such an error does to the outputs, where scores tell that
            (`StructureScores.effects`). Scores below 0 count as 0, and groups that score minus
            infinity have gone before and do not come back.
        per_cost: Divides each score by the weights of its group; not with `within="error"`, which
            takes the cost into account by itself.
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
    check_within(within, per_cost)
    if not isinstance(target, Target):
        raise ValueError(
            "`target` must be a target such as `tfprune.Sparsity(0.5)`. "
            f"Received: target={target!r}"
        )
    if not len(structures):
        raise ValueError("`structures` must hold at least one. Received: none")
    cost = cost or target.cost(model, structures)
    counts = {s.name: s.groups for s in structures}
    scores = checked_scores(structures, scores)
    # Where errors are compared, any ranking will do: all have the same order in a structure.
    by_error = within == "error"
    ranking = ranked(structures, scores, "layer" if by_error else within, per_cost, round_to)
    limit, full = target.limit, cost(counts)
    least = cost({s.name: s.groups - ranking.removed(i)[-1] for i, s in enumerate(structures)})
    tolerance = 1e-6 * max(full, 1e-12)
    if limit < least - tolerance:
        number = f"{len(structures)} structure{'s' * (len(structures) > 1)}"
        raise ValueError(
            f"`target` cannot be reached: {target.describe(limit)} was asked for, and with as "
            f"little left of {number} as can be the model has {target.describe(least)}. It can be "
            f"set from {target.describe(full)} to {target.describe(least)}."
            f"{_more_by_name(model, structures)}"
        )
    limit = full - progress * (full - limit)
    removal = _Removal(ranking, structures, cost, limit, tolerance, 0.005 * (full - least))
    if by_error:
        errors, fewest = _errors(scores, ranking, structures)
        fewest = np.maximum(fewest, removal.fewest)
        removed = least_error(errors, removal.cost, limit, tolerance, fewest, progress >= 1)
    else:
        removed = removal.best(must_meet=progress >= 1)
    return {
        s.name: ranking.groups_left(index, removed[index]) for index, s in enumerate(structures)
    }


def _more_by_name(model, structures) -> str:
    """What else of a model could be pruned that is left out unless it is named."""
    if model is None or "width" in structures.kinds:
        return ""
    names = [s.name for s in find_structures(model) if s.kind == "width"]
    if not names:
        return ""
    kinds = [*structures.kinds, "width"]
    return (
        f" The channels of residual streams ({', '.join(names)}) are left out unless they are "
        f"named: structures={kinds!r}."
    )


def check_within(within: str, per_cost: bool, allowed: Sequence[str] = WITHIN) -> None:
    """Raises `ValueError` if `choose` cannot compare so.

    Args:
        within: As in `choose`.
        per_cost: As in `choose`.
        allowed: What `within` may be.
    """
    one_of("within", within, allowed)
    if within == "error" and per_cost:
        raise ValueError(
            "`per_cost` must be False with within='error', which weighs errors against the cost by "
            f"itself. Received: per_cost={per_cost!r}"
        )


def default_within(
    target: Any,
    criterion: Criterion,
    per_cost: bool,
    is_fitted: bool,
    kinds: Collection[str] = (),
) -> str:
    """What is compared where nothing is said.

    That is what the criterion's scores are good for; but milliseconds do not follow weights, since
    some layers save time and others hardly any, so that for them errors are compared. So they are
    for the FLOPs of channels: in the first layers of a network one channel costs a hundred times as
    many as in the last ones, which would lose nearly all of theirs.

    Args:
        target: As in `choose`.
        criterion: What gives the scores.
        per_cost: As in `choose`.
        is_fitted: Whether weights that stay are fitted by least squares afterwards. If not, errors
            of the best fit say nothing about how much a layer can lose.
        kinds: The kinds of the structures, as far as they are known.
    """
    if per_cost or (criterion.expects_fit and not is_fitted):
        return "layer" if criterion.within == "error" else criterion.within
    by_error = are_flops_of_channels(target, kinds) or isinstance(target, Latency)
    return "error" if by_error and criterion.gives_errors else criterion.within


def are_flops_of_channels(target: Any, kinds: Collection[str]) -> bool:
    """Whether a target counts FLOPs, of which channels of one network cost so different numbers.

    Args:
        target: As in `choose`.
        kinds: The kinds of the structures.
    """
    return isinstance(target, Flops) and has_channels(kinds)


def has_channels(kinds: Collection[str]) -> bool:
    """Whether there are channels among kinds of structures, those of residual streams included."""
    return not {"channels", "width"}.isdisjoint(kinds)


def _errors(scores, ranking, structures) -> tuple[list[np.ndarray], np.ndarray]:
    """The errors without the first blocks of each structure, and how many have gone before."""
    every = np.concatenate([scores[s.name] for s in structures])
    # Infinite scores are for groups that are to go last; sums must stay finite.
    bound = 1e6 * (1.0 + np.sum(np.abs(every[np.isfinite(every)])))
    finite = scores.replaced({n: np.minimum(v, bound) for n, v in scores.items()})
    errors, fewest = [], []
    for index, structure in enumerate(structures):
        removed = ranking.removed(index)
        errors.append(finite.errors(structure.name, can_go=not structure.least)[removed])
        fewest.append(np.searchsorted(removed, np.sum(np.isneginf(scores[structure.name]))))
    return errors, np.array(fewest)


class _Removal:
    """Looks for the blocks whose removal meets a limit most closely.

    Of each structure, the blocks of the lowest scores are removed. So a choice is one number of
    blocks for each structure, an array `(structures,)`, called `taken` below.

    Args:
        ranking: The blocks in the order in which they are removed.
        structures: The structures.
        cost: What the model costs, by groups left.
        limit: What it may cost.
        tolerance: By how much rounding may let it exceed that.
        slack: How far below the limit is close enough.
    """

    def __init__(self, ranking: Ranking, structures, cost: Cost, limit, tolerance, slack):
        self.owner = ranking.owner
        self.names = [s.name for s in structures]
        self.left = [s.groups - ranking.removed(i) for i, s in enumerate(structures)]
        self.blocks = np.array([len(left) - 1 for left in self.left])
        # Where the groups are no multiple of the step, the first block must be removed.
        steps = zip(structures, ranking.steps, strict=True)
        self.fewest = np.array([s.groups % step > 0 for s, step in steps])
        self.fewest = np.minimum(self.fewest, self.blocks)
        # The place in the ranking of each block of a structure.
        self.places = [np.flatnonzero(self.owner == i) for i in range(len(structures))]
        self._cost = cost
        self.limit, self.most, self.least = limit, limit + tolerance, limit - slack

    def cost(self, taken: np.ndarray) -> float:
        """The cost of what is left."""
        left = zip(self.names, self.left, taken, strict=True)
        return self._cost({name: int(each[n]) for name, each, n in left})

    def first(self, number: int) -> np.ndarray:
        """The first blocks of the ranking."""
        return np.bincount(self.owner[:number], minlength=len(self.names))

    def best(self, must_meet: bool) -> np.ndarray:
        """The choice that meets the limit most closely, or the one closest to it on either side."""
        low, high = 0, len(self.owner)  # The fewest of the ranking that are enough.
        while low < high:
            middle = (low + high) // 2
            enough = self.cost(self.first(middle)) <= self.most
            low, high = (low, middle) if enough else (middle + 1, high)
        taken = self.first(low)
        if self.cost(taken) >= self.least or low == 0:
            return taken
        # The last one overshoots. Either smaller blocks that come later are removed in its place,
        # or some of those before it are kept.
        filled = self._filled_up(self.first(low - 1), low - 1)
        choices = [self._put_back(taken), self._put_back(self._past_the_limit(filled))]
        if not must_meet:
            choices.append(filled)
        return min(choices, key=lambda choice: abs(self.cost(choice) - self.limit))

    def _filled_up(self, taken: np.ndarray, place: int) -> np.ndarray:
        """Removes blocks from that place on, as far as the limit is not passed by much."""
        fits = np.ones(len(self.names), bool)
        while self.cost(taken) > self.most:
            later = np.flatnonzero(fits[self.owner[place:]])
            if not len(later):
                break
            place += later[0] + 1
            index = self.owner[place - 1]
            more = changed(taken, index, taken[index] + 1)
            if self.cost(more) >= self.least:
                taken = more
            else:
                fits[index] = False
        return taken

    def _past_the_limit(self, taken: np.ndarray) -> np.ndarray:
        """Removes further blocks until the limit is met, by as little as can be."""
        while self.cost(taken) > self.most:
            further = [changed(taken, i, taken[i] + 1) for i in np.flatnonzero(taken < self.blocks)]
            costs = np.array([self.cost(each) for each in further])
            met = costs <= self.most
            taken = further[int(np.argmax(np.where(met, costs, -np.inf if met.any() else -costs)))]
        return taken

    def _put_back(self, taken: np.ndarray) -> np.ndarray:
        """Keeps blocks that need not be removed, the most important first."""
        return put_back(
            taken, self.fewest, self._last_place, self.cost, self.most, enough=self.least
        )

    def _last_place(self, index: int, number: int) -> int:
        """The place in the ranking of the last of the first blocks of a structure."""
        return self.places[index][number - 1]
