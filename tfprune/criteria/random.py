"""Random scores, the baseline that any criterion should beat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfprune.arguments import integer
from tfprune.criteria.criterion import Criterion, Scores, register_criterion
from tfprune.structures import Structures
from tfprune.structures.structure import checked_structure


def random(seed: int = 0) -> Callable:
    """A criterion whose scores are drawn uniformly from [0, 1).

    Args:
        seed: Seed of the scores. Structures of the same name get the same scores from it.

    Returns:
        A `callable(structure)` that returns an array `(groups,)`.

    Raises:
        ValueError: If `seed` is not a whole number, 0 or more.

    Example:

    >>> from tfprune.criteria import random
    >>> callable(random(seed=3))
    True
    """

    seed = integer("seed", seed, least=0)

    def scores(structure):
        checked_structure(structure)
        name = np.frombuffer(structure.name.encode(), np.uint8)
        return np.random.default_rng([seed, *name]).uniform(size=structure.groups)

    return scores


@register_criterion
class Random(Criterion):
    """The criterion `"random"`: see `random`.

    Args:
        seed: Seed of the scores.
    """

    name = "random"

    def __init__(self, seed: int = 0):
        self.seed = integer("seed", seed, least=0)

    def scores(
        self,
        model: keras.Model,
        subject: keras.Model,
        structures: Structures,
        data: Any = None,
        batches: int | None = None,
    ) -> Scores:
        """Scores drawn by the seed and the structures' names."""
        return random(self.seed)
