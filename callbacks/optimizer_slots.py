"""What an optimizer remembers about a weight: momentum, velocity and the like."""

from __future__ import annotations

import keras
from keras import ops


def slots(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> list[keras.Variable]:
    """The optimizer's variables of the same shape that belong to a weight.

    Args:
        optimizer: A built optimizer; the one inside a `LossScaleOptimizer` is found.
        variable: A weight that it trains.

    Returns:
        One variable for each kind of slot; none if it does not train the weight.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    trained = getattr(optimizer, "_trainable_variables", [])
    place = next((i for i, v in enumerate(trained) if v is variable), None)
    if place is None:
        return []
    # Keras keeps each kind of slot in a list parallel to the weights.
    lists = [
        value
        for value in vars(optimizer).values()
        if isinstance(value, list) and len(value) == len(trained) and value is not trained
    ]
    found = [kind[place] for kind in lists]
    return [
        s
        for s in found
        if isinstance(s, keras.Variable) and s is not variable and s.shape == variable.shape
    ]


def clear_slots(optimizer, structure, alive) -> None:
    """Forgets the momentum of groups that have fallen, so that nothing moves them again.

    Args:
        optimizer: A built optimizer.
        structure: A structure.
        alive: Array `(groups,)`, 0 for the groups that have fallen.
    """
    for share in structure.slices:
        for slot in slots(optimizer, share.variable):
            slot.assign(slot * ops.cast(structure.spread(alive, share), slot.dtype))
