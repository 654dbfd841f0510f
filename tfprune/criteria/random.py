"""The baseline: chance."""

from collections.abc import Callable

import numpy as np


def random(seed: int = 0) -> Callable:
    """A criterion that draws its scores: what any other must beat.

    Args:
        seed: The same seed gives a structure of the same name the same scores.

    Example:

    >>> from tfprune.criteria import random
    >>> callable(random(seed=3))
    True
    """

    def scores(structure):
        name = np.frombuffer(structure.name.encode(), np.uint8)
        return np.random.default_rng([seed, *name]).uniform(size=structure.groups)

    return scores
