"""Heads of attention layers of any class, told by the shapes of their variables and proven.

A layer is searched for what makes heads and what reads them, in its graph (`roles`) or, where that
cannot be traced, while it runs (`running`). How the heads lie in each
variable is guessed (`guesses`), the layer is run with half of them cut out, on numbers, and only
what then computes the same as with these heads silenced is a structure (`proof`, `heads`).
"""

from tfprune.structures.by_shape.heads import HeadsByShape, find_heads, find_heads_by_running
from tfprune.structures.by_shape.padding import AtPositions

__all__ = ["AtPositions", "HeadsByShape", "find_heads", "find_heads_by_running"]
