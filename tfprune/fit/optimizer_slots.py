"""What an optimizer remembers about a weight: momentum, velocity and the like."""

from __future__ import annotations

import keras
from keras import ops


def innermost(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer inside a `LossScaleOptimizer`, or the optimizer itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def slots(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> list[keras.Variable]:
    """The optimizer's variables of the same shape that belong to a weight.

    Args:
        optimizer: A built optimizer; the one inside a `LossScaleOptimizer` is found.
        variable: A weight that it trains.

    Returns:
        One variable for each kind of slot; none if it does not train the weight.
    """
    optimizer = innermost(optimizer)
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


def renewed(
    optimizer: keras.optimizers.Optimizer, variables: list[keras.Variable], exempt=()
) -> keras.optimizers.Optimizer:
    """An optimizer like another that trains other variables too, or fewer; it forgets nothing.

    Keras optimizers refuse variables that were not there when they were built.

    Args:
        optimizer: An optimizer; one that is not built is only told what is exempt.
        variables: What the new one trains.
        exempt: Variables that weight decay leaves alone.

    Returns:
        A new, built optimizer with the step, the learning rate and the slots of the old one; or the
        same one if it was not built.
    """
    if not optimizer.built:
        inner = innermost(optimizer)
        _exempt(inner, exempt, like=inner)
        return optimizer
    new = type(optimizer).from_config(optimizer.get_config())
    inner, new_inner = innermost(optimizer), innermost(new)
    _exempt(new_inner, exempt, like=inner)
    new.build(variables)
    for old, fresh in ((optimizer, new), (inner, new_inner)):
        for name, value in vars(old).items():
            if isinstance(value, keras.Variable):
                vars(fresh)[name].assign(_copy(value))
    for variable in variables:
        for before, after in zip(slots(optimizer, variable), slots(new, variable), strict=False):
            after.assign(_copy(before))
    return new


def _copy(variable):
    """A value of its own: on JAX a step gives the buffers of what it changes away."""
    return ops.convert_to_numpy(variable).copy()


def _exempt(optimizer, variables, like):
    """Adds to what weight decay leaves alone; Keras's own method would replace it."""
    before = getattr(like, "_exclude_from_weight_decay", None) or set()
    added = {optimizer._var_key(v) for v in variables}
    optimizer._exclude_from_weight_decay = {*before, *added}
    pattern = getattr(like, "_exclude_from_weight_decay_pattern", None)
    optimizer._exclude_from_weight_decay_pattern = pattern


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
