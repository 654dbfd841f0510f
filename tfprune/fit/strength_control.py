"""Sets the strength of a penalty by the speed at which groups shrink."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from keras import ops

# The logarithm of a strength changes by at most this from one look to the next.
MOST = 1.0
# And by at most this in all: a factor of 1e8.
LIMIT = math.log(1e8)
# The median size, as a share of what was usual at first, below which groups that stay have shrunk
# so far that the strength rises no more.
STAYERS = 0.5

# The mean size, as such a share, below which groups that are to go hover about zero, at the height
# of an optimizer's steps: no strength makes them smaller.
HOVERING = 0.1


class StrengthControl:
    """Factors on strengths, such that the groups that are to go are small at a given step.

    A group lasso takes the same from each norm in a step, however large the norm is: under a
    constant strength, sizes fall along straight lines. So at each look the speed that leads
    straight to the aim is compared with the speed since the look before, and the strength is
    multiplied by their ratio. The size itself would be a poor guide: groups that have
    become small do not come back when the strength falls.

    Structures of a family are compared with each other when groups are ranked, and have one factor.

    Args:
        variable: Variable `(structures, 3)`, NaN at first: the logarithm of the factor, the mean
            size of the groups that were to go, and the step, all of the last look. The model must
            track it, so that a backup has it.
        families: The family of each structure.
        aim: The size at which groups are small.
    """

    def __init__(self, variable, families: Sequence[str], aim: float):
        self._variable = variable
        self._families = np.asarray(families)
        self._aim = aim

    def factors(self) -> np.ndarray:
        """The factor on each structure's strength, an array `(structures,)`."""
        logarithms = self._values()[:, 0]
        return np.exp(np.where(np.isnan(logarithms), 0.0, logarithms))

    def last_look(self) -> float:
        """The step of the last look; NaN before the first."""
        return float(self._values()[0, 2])

    def look(
        self,
        step: int,
        steps_left: float,
        sizes: Sequence[np.ndarray],
        keep: Sequence[np.ndarray],
        begin: Sequence[float] | None = None,
    ) -> None:
        """Compares sizes with those of the last look, and changes the factors.

        Args:
            step: The present step.
            steps_left: Steps in which groups are to become small.
            sizes: For each structure the sizes of its groups, `(groups,)`, as shares of what was
                usual at first.
            keep: For each structure which groups stay, `(groups,)`.
            begin: Factor of each structure at the first look; 1 by default. A family has their
                geometric mean.
        """
        values = self._values()
        for family in np.unique(self._families):
            mine = np.flatnonzero(self._families == family).tolist()
            leave = np.concatenate([sizes[i][~keep[i]] for i in mine])
            stay = np.concatenate([sizes[i][keep[i]] for i in mine])
            size = leave.mean() if len(leave) else 0.0
            logarithm, before, last = values[mine[0]]
            if np.isnan(last):
                at_first = np.ones(1) if begin is None else np.asarray(begin)[mine]
                logarithm = np.clip(np.log(at_first).mean(), -LIMIT, LIMIT)
            else:
                change = correction(size, before, step - last, self._aim, steps_left)
                if size < HOVERING or (len(stay) and np.median(stay) < STAYERS):
                    change = min(change, 0.0)
                logarithm = max(-LIMIT, min(logarithm + change, LIMIT))
            values[mine] = logarithm, size, step
        self._variable.assign(values)

    def _values(self):
        return np.array(ops.convert_to_numpy(self._variable))


def correction(size: float, before: float, steps: int, aim: float, steps_left: float) -> float:
    """What to add to the logarithm of a strength.

    Args:
        size: Size of the groups that are to go.
        before: Their size at the last look.
        steps: Steps since then.
        aim: The size at which they are small.
        steps_left: Steps in which they are to become so.

    Returns:
        The logarithm of `speed needed / speed seen`, from `-MOST` to `MOST`.

    Example:

    >>> correction(0.5, 0.75, 10, aim=0.0, steps_left=20)  # as fast as needed
    0.0
    """
    needed = (size - aim) / max(steps_left, steps)
    speed = (before - size) / steps
    if needed <= 0:
        return -MOST
    if speed <= 0:
        return MOST
    return max(-MOST, min(math.log(needed / speed), MOST))
