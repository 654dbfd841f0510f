"""Heads and units in layers of any class, told by the shapes of their variables and proven.

A layer is searched for what makes heads and what reads them, in its graph (`roles`) or, where that
cannot be traced, while it runs (`running`); or for weights of its own with an axis in common
(`own_weights`). How the groups lie in each variable is guessed (`guesses`), the layer is run with
half of them cut out, on numbers, and only what then computes the same as with these groups silenced
is a structure (`proof`, `proven`).
"""

from tfprune.structures.by_shape.groups import GroupsByShape
from tfprune.structures.by_shape.heads import find_heads
from tfprune.structures.by_shape.own_weights import find_own_units
from tfprune.structures.by_shape.padding import AtPositions
from tfprune.structures.by_shape.roles_by_running import find_by_running

__all__ = ["AtPositions", "GroupsByShape", "find_by_running", "find_heads", "find_own_units"]
