"""Scores by the names of structures, and the structures that they are of."""

from __future__ import annotations

import keras
import numpy as np

from tfprune.structures import Structure, Structures, find_structures


class StructureScores(dict):
    """Structure name to an array `(groups,)`; also a `callable(structure)`."""

    def __call__(self, structure: Structure) -> np.ndarray:
        """The scores of one structure."""
        if structure.name not in self:
            raise ValueError(
                f"There are no scores of {structure.name!r}. There are: {', '.join(self)}"
            )
        return self[structure.name]


def own_structures(model: keras.Model, structures: Structures | None) -> Structures:
    """The structures to score: those that are given, or all of a model.

    Args:
        model: A built model.
        structures: What the user has given.

    Raises:
        ValueError: If they are not the model's own.
    """
    if structures is None:
        return find_structures(model)
    own = {id(variable) for variable in model.variables}
    try:
        is_own = all(id(share.variable) in own for s in structures for share in s.slices)
    except (AttributeError, TypeError):
        is_own = False
    if not is_own:
        raise ValueError(
            "`structures` must be structures of `model`, as `tfprune.find_structures(model)` gives "
            f"them. Received: {structures!r}"
        )
    return structures
