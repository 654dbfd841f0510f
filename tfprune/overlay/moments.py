"""Sums over positions from which least squares are solved."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from keras import ops

from tfprune.overlay.activations import Read

_ROWS = 1024
"""Positions that are in double precision at a time."""
_BLOCK = 256
"""Rows of a matrix of products that are kept as one array."""


class _Sums:
    """The number and the mean of what a layer reads, in double precision.

    Sums are taken of differences to the mean of the first positions, so that a mean that is large
    beside the variance takes no digits.

    Args:
        width: How many numbers there are at a position.

    Attributes:
        count: Positions so far.
    """

    def __init__(self, width: int):
        self.count = 0
        self._shift = np.zeros(width)
        self._sum = np.zeros(width)

    def add(self, rows: np.ndarray) -> None:
        """Adds positions.

        Args:
            rows: Array `(positions, width)`.
        """
        if not self.count and len(rows):
            self._shift = rows.mean(axis=0, dtype="float64")
        for start in range(0, len(rows), _ROWS):
            some = rows[start : start + _ROWS].astype("float64") - self._shift
            self._sum += some.sum(axis=0)
            self._add_products(some)
        self.count += len(rows)

    def _add_products(self, rows: np.ndarray) -> None:
        """Adds what a subclass sums beside the mean, of differences `(positions, width)`."""
        raise NotImplementedError

    @property
    def mean(self) -> np.ndarray:
        """The mean, an array `(width,)`."""
        return self._shift + self._sum / max(self.count, 1)


class Moments(_Sums):
    """The number, the mean and the products of what a layer reads, in double precision.

    Products are symmetric, and a criterion holds those of all layers at once, so only blocks of
    rows up to the diagonal are kept: half of a square matrix.

    Args:
        width: How many numbers there are at a position.

    Attributes:
        count: Positions so far.
    """

    def __init__(self, width: int):
        super().__init__(width)
        every = [slice(at, min(at + _BLOCK, width)) for at in range(0, width, _BLOCK)]
        sizes = [(at.stop - at.start) * at.stop for at in every]
        # One allocation: memory of small ones stays with the process once they are free.
        parts = np.split(np.zeros(sum(sizes)), np.cumsum(sizes)[:-1])
        self._blocks = [
            (at, part.reshape(-1, at.stop)) for at, part in zip(every, parts, strict=True)
        ]

    def _add_products(self, rows):
        for at, block in self._blocks:
            block += rows[:, at].T @ rows[:, : at.stop]

    def covariance(self) -> np.ndarray:
        """The mean product of differences to the mean, an array `(width, width)`."""
        mean = self._sum / max(self.count, 1)
        return self._filled(lambda block, at: block - np.outer(mean[at], mean[: at.stop]))

    def second(self) -> np.ndarray:
        """The mean product, an array `(width, width)`."""
        # Of numbers a = s + d with the shift s: E[a aᵀ] = E[d dᵀ] − E[d] E[d]ᵀ + E[a] E[a]ᵀ.
        shifted, mean = self._sum / max(self.count, 1), self.mean
        return self._filled(
            lambda block, at: (
                block
                - np.outer(shifted[at], shifted[: at.stop])
                + np.outer(mean[at], mean[: at.stop])
            )
        )

    def _filled(self, centred: Callable[[np.ndarray, slice], np.ndarray]) -> np.ndarray:
        """The whole matrix of what each block of mean products becomes."""
        filled = np.empty((len(self._sum), len(self._sum)))
        for at, block in self._blocks:
            filled[at, : at.stop] = centred(block / max(self.count, 1), at)
            filled[: at.start, at] = filled[at, : at.start].T
        return filled


def rows_of(read: Read, width: int) -> np.ndarray:
    """What a layer reads, position by position, without padding.

    Args:
        read: What it reads in one call.
        width: How many numbers there are at a position.

    Returns:
        Array `(positions, width)`, float32.
    """
    rows = ops.convert_to_numpy(ops.cast(read.inputs, "float32")).reshape(-1, width)
    if read.mask is None:
        return rows
    mask = ops.convert_to_numpy(read.mask).astype(bool).reshape(-1)
    # The mask may have fewer axes than there are positions in.
    return rows[np.repeat(mask, len(rows) // len(mask))]


class Variances(_Sums):
    """The number, the means and the variances of what a layer reads, in double precision.

    As `Moments`, for criteria that need no products: sums for each number alone.

    Args:
        width: How many numbers there are at a position.

    Attributes:
        count: Positions so far.
    """

    def __init__(self, width: int):
        super().__init__(width)
        self._squares = np.zeros(width)

    def _add_products(self, rows):
        self._squares += np.einsum("pw,pw->w", rows, rows)

    @property
    def variance(self) -> np.ndarray:
        """The mean squared difference to the mean, an array `(width,)`."""
        count = max(self.count, 1)
        return np.maximum(self._squares / count - (self._sum / count) ** 2, 0.0)
