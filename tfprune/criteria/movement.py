"""Scores that movement pruning has learned: weights that move away from zero are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from tfprune.arguments import keras_model
from tfprune.criteria.criterion import Criterion, Scores, register_criterion
from tfprune.gates import BlockScores, gates_of
from tfprune.gates.movement import of_all_kernels
from tfprune.structures import Structures


def movement(model: keras.Model) -> Callable:
    """The scores that the gates of a model have learned, such as those of `MovementScores`.

    Args:
        model: A model with gates that rank groups: their `group_scores()` is not `None`.

    Returns:
        A `callable(structure)` for the gated structures, which returns `S` of each group, an array
        `(groups,)`. For blocks, the highest S of its blocks in the kernel where that is lowest, as
        `tfprune.gates.movement.of_all_kernels` says: groups leave in this order if a threshold on
        blocks rises. Where several other gates are applied to a structure, the mean over them.

    Raises:
        ValueError: If the model has no such gates, or the structure none.

    Source: Sanh et al., "Movement Pruning: Adaptive Sparsity by Fine-Tuning", 2020, equation 4.

    Example:

    >>> import keras, tfprune
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(3, "relu"), keras.layers.Dense(1)])
    >>> units = tfprune.find_structures(model)[0]
    >>> gates = tfprune.gates.attach(model, [tfprune.gates.MovementScores(units)])
    >>> movement(model)(units)
    array([0., 0., 0.], dtype=float32)
    """
    keras_model("model", model)
    ranking: dict[str, list] = {}
    for gate in gates_of(model):
        learned = gate.group_scores()
        if learned is not None:
            ranking.setdefault(gate.structure.name, []).append((gate, learned))
    if not ranking:
        raise ValueError("`model` carries no movement scores; attach `MovementScores` first.")

    def scores(structure):
        if structure.name not in ranking:
            raise ValueError(f"No movement scores are applied to {structure.name!r}.")
        gates, learned = zip(*ranking[structure.name], strict=True)
        if all(isinstance(gate, BlockScores) for gate in gates):
            return of_all_kernels(gates, learned)
        return sum(learned) / len(learned)

    return scores


@register_criterion
class Movement(Criterion):
    """The criterion `"movement"`: see `movement`."""

    name = "movement"

    def scores(
        self,
        model: keras.Model,
        subject: keras.Model,
        structures: Structures,
        data: Any = None,
        batches: int | None = None,
    ) -> Scores:
        """What the gates of `subject` have learned so far."""
        return movement(subject)

    def check_structures(self, subject: keras.Model, structures: Structures) -> None:
        """Raises `ValueError` if a structure has no gate that learns scores."""
        learned = movement(subject)
        for structure in structures:
            learned(structure)
