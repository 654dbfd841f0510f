"""Scores of groups that are sums of scores of the single inputs that layers read from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import keras
import numpy as np

from tfprune.criteria.consumers import Consumer, consumers
from tfprune.criteria.output_effects import noted, output_effects
from tfprune.criteria.structure_scores import StructureScores
from tfprune.overlay.moments import Variances
from tfprune.structures import Structure, Structures


def scores_by_input(
    model: keras.Model,
    structures: Structures,
    batches: Iterable[Any],
    score: Callable[[Consumer], np.ndarray],
    instead: Callable[[Consumer], np.ndarray],
) -> StructureScores:
    """Scores of groups that are sums of scores of single inputs.

    Their `effects` are those of `tfprune.criteria.output_effects`, worked out when they are first
    asked for: only where errors of structures are compared are they needed.

    Args:
        model: A built model.
        structures: Structures of it.
        batches: As `inputs_of` gives them.
        score: A score `(inputs,)` from a consumer whose sums are `Variances`: the mean squared
            error of what it emits without the input.
        instead: What takes the place of the inputs then, `(inputs,)`, from a consumer.
    """
    first: list[Any] = []
    found = consumers(model, structures, noted(batches, first), Variances)
    scores = StructureScores(
        {s.name: _summed_by_group(s, ((c, score(c)) for c in found[s.name])) for s in structures}
    )
    effects = partial(output_effects, model, structures, found, scores, first, instead)
    return StructureScores(scores, effects=effects)


def _summed_by_group(
    structure: Structure, each: Iterable[tuple[Consumer, np.ndarray]]
) -> np.ndarray:
    """One number for each input of consumers, summed over the inputs of each group.

    Args:
        structure: The structure.
        each: Its consumers with arrays `(inputs,)`.

    Returns:
        Array `(groups,)`.
    """
    total = np.zeros(structure.groups)
    for consumer, numbers in each:
        mine = consumer.owners >= 0
        total += np.bincount(consumer.owners[mine], numbers[mine], structure.groups)
    return total
