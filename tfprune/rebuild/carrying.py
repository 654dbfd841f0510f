"""Constants that no bias can take, carried by one of the groups that emit them.

Behind padding a constant is none at the borders, and a layer may have no bias at all. But what a
layer makes of one constant it makes of another one, times a factor: so one group can stand for all
that emit constants, at the cost of staying itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfprune.structures import Structure

_LEAST = 1e-3  # Of the largest constant; others would be divided by next to nothing.


@dataclass(frozen=True)
class Carried:
    """What one group takes over from others.

    Args:
        gone: Boolean array `(groups,)`, true for the groups that can go now.
        values: Variables with their new values.
    """

    gone: np.ndarray
    values: tuple[tuple[Any, np.ndarray], ...]


def carried(
    structure: Structure,
    dead: np.ndarray,
    constants: Sequence[np.ndarray | None],
    emissions: Sequence[np.ndarray | None],
    read: Callable[[Any], np.ndarray],
) -> Carried | None:
    """Chooses a group that carries the constants of others, and what its weights become.

    Args:
        structure: The structure.
        dead: Boolean array `(groups,)`, true for groups that may emit nothing but constants, as far
            as their weights tell.
        constants: What `structure.all_constants` returned.
        emissions: What `structure.all_emitted` returned: the constants that biases can take.
        read: Gives the value of a variable.

    Returns:
        `None` if no group can leave in this way.
    """
    known = [constant for constant in constants if constant is not None and constant.ndim == 1]
    if len(known) < len(constants):
        return None
    dead = dead.copy()
    for consumer, constant in zip(structure.consumers, known, strict=True):
        dead &= structure.is_constant(structure.by_group(constant, consumer))
    strength = np.full(structure.groups, np.inf)
    readers = []
    for consumer, constant, emitted in zip(structure.consumers, known, emissions, strict=True):
        at = structure.positions(np.flatnonzero(dead), consumer)
        if consumer.bias_variable is None or emitted is None or not np.isfinite(emitted[at]).all():
            each = np.max(np.abs(structure.by_group(constant, consumer)), axis=1)
            readers.append((consumer, constant, each))
    for _, _, largest in readers:
        most = np.max(largest[dead], initial=0.0)
        if most > 0:
            strength = np.minimum(strength, largest / most)
    strength[~dead] = 0.0
    carrier = int(np.argmax(strength))
    gone = dead & (np.arange(structure.groups) != carrier)
    if not np.any(gone) or not _LEAST < strength[carrier] < np.inf:
        return None
    values = []
    for consumer, constant, largest in readers:
        if not np.any(largest[gone]):
            continue
        kernel = np.moveaxis(np.array(read(consumer.variable)), consumer.axis, 0)
        at = structure.positions(np.flatnonzero(gone), consumer)
        own = structure.positions(np.array([carrier]), consumer)
        place = own[np.argmax(np.abs(constant[own]))]
        exact = constant.astype("float64")
        total = np.tensordot(exact[at], kernel[at].astype("float64"), axes=1)
        kernel[place] += (total / exact[place]).astype(kernel.dtype)
        values.append((consumer.variable, np.moveaxis(kernel, 0, consumer.axis)))
    return Carried(gone, tuple(values))
