"""Scores by the names of structures, and the structures that they are of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import keras
import numpy as np

from tfprune.structures import Structure, Structures, find_structures


class StructureScores(dict):
    """Structure name to an array `(groups,)`; also a `callable(structure)`.

    Args:
        scores: The arrays.
        cumulative: Whether a score is the error when its group and all of lower score in its
            structure have gone. If not, it is that of its group alone.
        effects: Structure name to what an error of 1 in it means for the model; 1 by default. Or a
            function that returns it, called when it is first needed.

    Example:

    >>> StructureScores({"ffn": np.array([3.0, 1.0, 2.0])}).errors("ffn").tolist()
    [0.0, 1.0, 3.0, 6.0]
    >>> StructureScores({"ffn": np.array([3.0, 1.0, 2.0])}).errors("ffn", can_go=False).tolist()
    [0.0, 1.2, 6.0, 12.0]
    >>> StructureScores({"ffn": np.array([6.0, 1.0, 3.0])}, cumulative=True).errors("ffn").tolist()
    [0.0, 1.0, 3.0, 6.0]
    """

    def __init__(
        self,
        scores: Mapping[str, np.ndarray],
        cumulative: bool = False,
        effects: Mapping[str, float] | Callable[[], Mapping[str, float]] | None = None,
    ):
        super().__init__(scores)
        self.cumulative = cumulative
        self._effects = cache(effects) if callable(effects) else effects or {}

    @property
    def effects(self) -> Mapping[str, float]:
        """Structure name to what an error of 1 in it means for the model."""
        return self._effects() if callable(self._effects) else self._effects

    def replaced(self, scores: Mapping[str, np.ndarray]) -> StructureScores:
        """Other numbers of the same kind."""
        return StructureScores(scores, self.cumulative, self._effects)

    def __call__(self, structure: Structure) -> np.ndarray:
        """The scores of one structure."""
        if structure.name not in self:
            raise ValueError(
                f"There are no scores of {structure.name!r}. There are: {', '.join(self)}"
            )
        return self[structure.name]

    def errors(self, name: str, can_go: bool = True) -> np.ndarray:
        """The error of a structure when its first 0, 1, 2 ... groups of lowest score have gone.

        Scores below 0 count as 0. Errors of structures with `effects` can be added up.

        Scores of single groups are right for small changes, and their sum says nothing of what it
        means when nothing is left. Where a structure cannot go, its sum is therefore divided by the
        share of it that is left: a layer of small scores would lose all of its groups but one.

        Args:
            name: The structure's name.
            can_go: Whether the model can do without the whole structure.

        Returns:
            Array `(groups + 1,)`, which does not fall.
        """
        each = self.effects.get(name, 1.0) * np.sort(np.maximum(self[name], 0.0))
        if self.cumulative:
            return np.concatenate([[0.0], each])
        sums = np.concatenate([[0.0], np.cumsum(each)])
        if can_go or not sums[-1]:
            return sums
        left = np.append(np.cumsum(each[::-1])[::-1], each[-1]) / sums[-1]
        return sums / left


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
