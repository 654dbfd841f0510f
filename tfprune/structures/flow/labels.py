"""Labels of positions, and which of them must leave together."""

from __future__ import annotations

import numpy as np

Labels = np.ndarray
"""The labels of the positions along one axis, an array `(length,)`; a label may recur."""


def places(order: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The place of each of some classes in a sorted array of classes, or -1."""
    place = np.minimum(np.searchsorted(order, classes), len(order) - 1)
    return np.where(order[place] == classes, place, -1)


class Classes:
    """Labels that are joined into classes; some classes must stay, each for a reason.

    Example:

    >>> classes = Classes()
    >>> a, b = classes.new(2), classes.new(2)
    >>> classes.join(a, b)
    >>> classes.keep(b[:1], "it is read elsewhere")
    >>> classes.solved()
    >>> classes.of(a).tolist(), classes.of(b).tolist()
    ([0, 1], [0, 1])
    >>> classes.reason(a), classes.reason(a[1:])
    ('it is read elsewhere', None)
    """

    def __init__(self):
        self._count = 0
        self._joined: list[tuple[Labels, Labels]] = []
        self._kept: list[tuple[Labels, str]] = []
        self._class = np.zeros(0, int)
        self._reasons: dict[int, str] = {}

    def new(self, count: int) -> Labels:
        """So many labels that were not there before."""
        self._count += count
        return np.arange(self._count - count, self._count)

    def join(self, one: Labels, other: Labels) -> None:
        """Says that labels at the same place of two arrays leave together."""
        if one is not other:
            self._joined.append((one, other))

    def keep(self, labels: Labels, reason: str) -> None:
        """Says that labels must stay, and why."""
        self._kept.append((labels, reason))

    def solved(self) -> None:
        """Works out the classes, once all is said; the number of a class is its least label."""
        least = np.arange(self._count)
        if self._joined:
            one = np.concatenate([a for a, _ in self._joined])
            other = np.concatenate([b for _, b in self._joined])
            while not np.array_equal(least[one], least[other]):
                smaller = np.minimum(least[one], least[other])
                np.minimum.at(least, least[one], smaller)
                np.minimum.at(least, least[other], smaller)
                while not np.array_equal(least[least], least):
                    least = least[least]
        self._class = least
        self._reasons = {}
        for labels, reason in self._kept:
            for number in np.unique(least[labels]).tolist():
                self._reasons.setdefault(number, reason)

    def of(self, labels: Labels) -> np.ndarray:
        """The classes of labels."""
        return self._class[labels]

    def reason(self, labels: Labels) -> str | None:
        """Why some of the labels must stay, `None` if all may leave."""
        found = (self._reasons.get(number) for number in np.unique(self.of(labels)).tolist())
        return next((reason for reason in found if reason is not None), None)

    def stay(self) -> np.ndarray:
        """Whether each class must stay, by its number; false for labels that are no least ones."""
        found = np.zeros(self._count, bool)
        found[list(self._reasons)] = True
        return found
