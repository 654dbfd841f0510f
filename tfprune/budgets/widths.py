"""How many groups each structure loses, so that the sum of their errors is least."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

_BUCKETS = 4096
"""Into how many parts all that can be saved is divided."""
_POINTS = 64
"""At how many widths of a structure the cost is worked out; between them it is interpolated."""
_ROUNDS = 3
"""How often savings are worked out anew, at what the round before has chosen."""


def least_error(
    errors: Sequence[np.ndarray],
    cost: Callable[[np.ndarray], float],
    limit: float,
    tolerance: float = 0.0,
    fewest: np.ndarray | None = None,
    must_meet: bool = True,
) -> np.ndarray:
    """How much to remove of each structure: the least sum of errors at which a limit is met.

    Found by dynamic programming over the structures, with what they save in buckets. For that,
    savings must add up: what a structure saves is at first the mean of what it saves with all
    others whole and with all others gone, which is exact where no more than two meet in a product;
    then what it saves beside what was chosen, a few times over. Of the sums of savings, the least
    at which the true cost meets the limit is taken, and what need not be removed is put back, most
    error for its cost first. So the sum of errors is the least up to one bucket for each structure,
    a 4,096th of all that can be saved, where costs add up, and about the least where they do not.

    Args:
        errors: For each structure an array `(blocks + 1,)`, the error when its first 0, 1, 2 ...
            blocks have gone; it must not fall.
        cost: The cost when so many blocks of each structure have gone, an array `(structures,)`. It
            must not rise with them.
        limit: What the cost may be. With nothing left it must be met.
        tolerance: By how much rounding may let the cost exceed the limit.
        fewest: Blocks of each structure that must go, `(structures,)`; none by default.
        must_meet: Whether the limit must be met; if not, the closest choice is taken, above or
            below, among those that are a block away.

    Returns:
        The number of blocks to remove of each structure, an array `(structures,)`.

    Source: Frantar et al., "ZipLM: Inference-Aware Structured Pruning of Language Models", 2023,
    section 3.2; Frantar & Alistarh, "SPDY: Accurate Pruning with Speedup Guarantees", 2022.

    Example:

    >>> errors = [np.array([0.0, 1.0, 4.0]), np.array([0.0, 2.0, 9.0])]
    >>> least_error(errors, cost=lambda gone: 4.0 - gone.sum(), limit=2.0).tolist()
    [1, 1]
    """
    search = _Search(errors, cost, limit + tolerance, fewest)
    if cost(search.fewest) <= search.most:
        return search.fewest
    taken, least = search.all, np.inf
    savings = search.savings([search.fewest, search.all])
    for _ in range(_ROUNDS):
        found = search.put_back(search.solved(savings), savings)
        error = search.error(found)
        if error >= least:
            break
        taken, least = found, error
        savings = search.savings([found])
    if must_meet:
        return taken
    fewer = [changed(taken, i, taken[i] - 1) for i in np.flatnonzero(taken > search.fewest)]
    return min([taken, *fewer], key=lambda choice: abs(cost(choice) - limit))


class _Search:
    """Choices of numbers of blocks, arrays `(structures,)` that are called `taken`.

    Args:
        errors: As in `least_error`.
        cost: As in `least_error`.
        most: What the cost may be, rounding included.
        fewest: As in `least_error`.
    """

    def __init__(self, errors, cost, most, fewest):
        self.errors, self.cost, self.most = errors, cost, most
        self.all = np.array([len(error) - 1 for error in errors])
        self.fewest = np.zeros_like(self.all) if fewest is None else np.asarray(fewest, int)

    def error(self, taken: np.ndarray) -> float:
        """The sum of the errors."""
        return float(sum(error[n] for error, n in zip(self.errors, taken, strict=True)))

    def savings(self, others: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What each number of blocks of a structure saves beside the fewest, `(blocks + 1,)`.

        Args:
            others: Choices for the other structures; the mean over them is taken.
        """
        saved = []
        for i, (low, high) in enumerate(zip(self.fewest, self.all, strict=True)):
            points = np.unique(np.linspace(low, high, _POINTS + 1).round().astype(int))
            costs = np.array([[self.cost(changed(o, i, n)) for n in points] for o in others])
            mean = np.mean(costs[:, :1] - costs, axis=0)
            # What costs less with fewer groups gone is never worth it.
            saved.append(np.interp(np.arange(high + 1), points, np.maximum.accumulate(mean)))
        return saved

    def solved(self, savings: list[np.ndarray]) -> np.ndarray:
        """The choice of least error whose true cost meets the limit."""
        unit = sum(each[-1] for each in savings) / _BUCKETS
        if unit <= 0:
            return self.all
        table = _Table(self.errors, savings, self.fewest, unit)
        low, high = 0, table.buckets
        while low < high:
            middle = (low + high) // 2
            meets = self.cost(table.taken(middle)) <= self.most
            low, high = (low, middle) if meets else (middle + 1, high)
        # Savings are rounded down, so one that has a bucket less for each structure may meet it.
        for bucket in range(max(0, low - len(savings)), low + 1):
            taken = table.taken(bucket)
            if self.cost(taken) <= self.most:
                return taken
        return self.all

    def put_back(self, taken: np.ndarray, savings: list[np.ndarray]) -> np.ndarray:
        """Keeps blocks that need not go, most error for its cost first."""

        def worth(i, n):
            error, saved = self.errors[i], savings[i]
            return (error[n] - error[n - 1]) / max(saved[n] - saved[n - 1], 1e-30)

        return put_back(taken, self.fewest, worth, self.cost, self.most)


def put_back(
    taken: np.ndarray,
    fewest: np.ndarray,
    worth: Callable[[int, int], float],
    cost: Callable[[np.ndarray], float],
    most: float,
    enough: float = np.inf,
) -> np.ndarray:
    """Keeps blocks that need not be removed, one after the other.

    Args:
        taken: The number of blocks of each structure that are removed, `(structures,)`.
        fewest: Blocks of each structure that must be removed, `(structures,)`.
        worth: What the last of so many removed blocks of a structure is worth; called as
            `worth(index, number)`. The block that is worth most comes first.
        cost: As in `least_error`.
        most: What the cost may be.
        enough: The cost at which no more is put back.

    Returns:
        What is removed then, an array `(structures,)`.
    """
    fits = taken > fewest
    while fits.any() and cost(taken) < enough:
        each = np.flatnonzero(fits)
        best = each[int(np.argmax([worth(int(i), int(taken[i])) for i in each]))]
        fewer = changed(taken, best, taken[best] - 1)
        if cost(fewer) <= most:
            taken = fewer
        fits[best] = fewer is taken and taken[best] > fewest[best]
    return taken


class _Table:
    """The least sum of errors for each number of buckets that is saved.

    Args:
        errors: As in `least_error`.
        savings: What the blocks of each structure save, arrays like `errors`.
        fewest: As in `least_error`.
        unit: What a bucket saves.

    Attributes:
        buckets: The most that can be saved.
    """

    def __init__(self, errors, savings, fewest, unit):
        # For each structure, the blocks that save 0, 1, 2 ... buckets. Errors do not fall, so the
        # fewest that do are the best.
        self._blocks: list[np.ndarray] = []
        # For each structure and each sum over it and those before it, its own buckets.
        self._own: list[np.ndarray] = []
        least = np.zeros(1)
        for error, saved, few in zip(errors, savings, fewest, strict=True):
            most = int(saved[-1] / unit + 1e-9)
            blocks = np.searchsorted(saved[few:], unit * (np.arange(most + 1) - 1e-6)) + few
            least, own = _joined(least, error[blocks])
            self._blocks.append(blocks)
            self._own.append(own)
        self.buckets = len(least) - 1

    def taken(self, buckets: int) -> np.ndarray:
        """The choice of least error that saves so many buckets."""
        taken = np.zeros(len(self._own), int)
        for i in reversed(range(len(taken))):
            own = self._own[i][buckets]
            taken[i] = self._blocks[i][own]
            buckets = max(buckets - own, 0)
        return taken


def _joined(least: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Adds a structure to a table.

    Args:
        least: The least error of the structures so far, for each number of buckets.
        errors: The error of one more, for each number of its buckets.

    Returns:
        The least error of all, and how many buckets of the one more that takes.
    """
    size = len(least) + len(errors) - 1
    best, own = np.full(size, np.inf), np.zeros(size, int)
    for buckets, error in enumerate(errors):
        # With `buckets` of its own, the others must save what is missing, or nothing.
        reached = np.full(size, np.inf)
        reached[:buckets] = least[0]
        reached[buckets : buckets + len(least)] = least
        reached += error
        better = reached < best
        best[better], own[better] = reached[better], buckets
    return best, own


def changed(taken: np.ndarray, index: int | np.integer, number: int | np.integer) -> np.ndarray:
    """A choice with another number of blocks of one structure."""
    other = taken.copy()
    other[index] = number
    return other
