"""Scores by the size of weights: groups of small weights are removed first."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tfprune.criteria.criterion import Criterion, Scores, register_criterion
from tfprune.penalties import root_mean_squares
from tfprune.structures import Structure, Structures
from tfprune.structures.structure import checked_structure


def magnitude(structure: Structure) -> np.ndarray:
    """Root mean square of the weights of each group.

    The mean, not the sum: groups of different sizes are then compared weight by weight.

    Args:
        structure: A structure.

    Returns:
        Array `(groups,)`.

    Raises:
        ValueError: If `structure` is none.

    Example:

    >>> import keras, tfprune
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(3, "relu"), keras.layers.Dense(1)])
    >>> magnitude(tfprune.find_structures(model)[0]).shape
    (3,)
    """
    return root_mean_squares(checked_structure(structure))


@register_criterion
class Magnitude(Criterion):
    """The criterion `"magnitude"`: see `magnitude`."""

    name = "magnitude"

    def scores(
        self,
        model: keras.Model,
        subject: keras.Model,
        structures: Structures,
        data: Any = None,
        batches: int | None = None,
    ) -> Scores:
        """`magnitude` itself: the weights are all that it needs."""
        return magnitude
