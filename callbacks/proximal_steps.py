"""Steps that shrink groups beside the optimizer, in which the loss stays as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tfprune import penalties
from tfprune.structures import Structure


def factors_to_zero(references, rates, steps: float, strength: float) -> list[float]:
    """By which factors on a strength some steps would take groups of usual size to zero.

    Args:
        references: The usual root mean square of the groups of each structure.
        rates: The learning rate of each.
        steps: How many steps.
        strength: The strength λ: a step shrinks the norm of a group by rate · λ · √d.
    """
    way = np.maximum(np.asarray(rates) * steps * strength, 1e-30)
    return (np.asarray(references) / way).tolist()


def strengths_to_zero(sizes, keep, references, rates, steps: float) -> list[float]:
    """For each structure the λ that takes a group of mean size, of those that go, to zero.

    Args:
        sizes: For each structure the root mean squares of its groups, as shares of the reference.
        keep: For each structure which groups stay, boolean `(groups,)`.
        references: As in `factors_to_zero`.
        rates: As in `factors_to_zero`.
        steps: How many steps.

    Returns:
        Strengths; 0 where no group goes.
    """
    found = []
    for size, stays, reference, rate in zip(sizes, keep, references, rates, strict=True):
        way = rate * max(steps, 1.0)
        mean = float(size[~stays].mean() * reference) if not stays.all() else 0.0
        found.append(mean / way if way else 0.0)
    return found


def take_toward_zero(
    structures: Sequence[Structure], keep: Mapping[str, np.ndarray], share: float
) -> None:
    """Leaves the groups that go a share of what they are, and the others as they are.

    Args:
        structures: The structures.
        keep: Structure name to which groups stay, boolean `(groups,)`.
        share: From 0 to 1.
    """
    for structure in structures:
        structure.scale(np.where(keep[structure.name], 1.0, share).astype("float32"))


def shrink(
    structures: Sequence[Structure],
    amounts: Sequence[float],
    keep: Mapping[str, np.ndarray],
    only_others: bool,
) -> None:
    """Makes the norms of groups smaller, down to zero; none that stays loses more than half.

    Args:
        structures: The structures.
        amounts: For each, by how much times √d.
        keep: Structure name to which groups stay, boolean `(groups,)`; empty where none is said to.
        only_others: Whether those that stay are let be.
    """
    for structure, amount in zip(structures, amounts, strict=True):
        if not amount:
            continue
        if only_others:
            penalties.shrink(structure, amount, ~keep[structure.name])
            continue
        stays = keep.get(structure.name)
        if stays is not None and stays.any():
            amount = min(amount, 0.5 * penalties.root_mean_squares(structure)[stays].min())
        penalties.shrink(structure, amount)
