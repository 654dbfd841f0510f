"""Weights that move away from zero matter."""

from collections.abc import Callable

import keras

from tfprune.gates import gates_of


def movement(model: keras.Model) -> Callable:
    """The scores that `MovementScores` gates have learned.

    Args:
        model: A model that carries such gates.

    Returns:
        A criterion for the gated structures: `S` of each group. For blocks, the mean of `σ(S)` over
        the blocks that touch a group.

    Raises:
        ValueError: If the model has no such gates, or the structure none.

    Source: Sanh et al., "Movement Pruning: Adaptive Sparsity by Fine-Tuning", 2020, equation 4.
    """
    gates = [g for g in gates_of(model) if g.group_scores() is not None]
    if not gates:
        raise ValueError("`model` carries no movement scores; attach `MovementScores` first.")

    def scores(structure):
        mine = [g for g in gates if g.structure.name == structure.name]
        if not mine:
            raise ValueError(f"No movement scores lie over {structure.name!r}.")
        return sum(g.group_scores() for g in mine) / len(mine)

    return scores
