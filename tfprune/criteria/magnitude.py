"""Large weights matter."""

import numpy as np

from tfprune.penalties import root_mean_squares
from tfprune.structures import Structure


def magnitude(structure: Structure) -> np.ndarray:
    """Root mean square of the weights of each group, an array `(groups,)`.

    The mean, not the sum: groups of different sizes are then compared weight by weight.

    Args:
        structure: A structure.
    """
    return root_mean_squares(structure)
