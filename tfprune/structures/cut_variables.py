"""Where the structures of a model meet: the variables that several of them cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import keras
import numpy as np
from keras import ops

from tfprune.structures.slices import Slices
from tfprune.structures.structure import Structure


@dataclass(frozen=True)
class CutVariable:
    """A variable with all that may be cut out of it.

    In a chain of dense layers a kernel loses rows with the units that it reads and columns with
    those that it makes.

    Args:
        variable: The variable.
        shares: Each structure that has groups in it, with its slices, each along another axis or at
            other positions of it.
    """

    variable: keras.Variable
    shares: tuple[tuple[Structure, Slices], ...]


def by_variable(structures: Iterable[Structure]) -> tuple[CutVariable, ...]:
    """The variables of structures, each once, in order of appearance.

    Raises:
        ValueError: If two structures have groups at the same positions along an axis of a variable.
    """
    found: dict[int, tuple[keras.Variable, list[tuple[Structure, Slices]]]] = {}
    for structure in structures:
        for share in structure.slices:
            _, shares = found.setdefault(id(share.variable), (share.variable, []))
            for other, theirs in shares:
                if other is not structure and overlap(theirs, share):
                    raise ValueError(
                        f"`structures` must not overlap. Received: {other.name!r} and "
                        f"{structure.name!r}, which both divide axis {share.axis} of "
                        f"{share.attribute} of {share.layer.name!r} into groups"
                    )
            shares.append((structure, share))
    return tuple(CutVariable(variable, tuple(shares)) for variable, shares in found.values())


def overlap(one: Slices, other: Slices) -> bool:
    """Whether two shares in one variable have positions in common, along the same axis.

    Args:
        one: A share.
        other: Another one in the same variable.
    """
    if one.axis != other.axis:
        return False
    if one.owner is None or other.owner is None:
        return True
    return bool(np.any((one.owner >= 0) & (other.owner >= 0)))


class LeftOver:
    """What is left of a quantity when groups are removed: `Σ aₖ Π sᵢ`.

    sᵢ is the share of the groups of structure i that is left. A term has a factor for each
    structure that cuts into what it counts: a kernel between two structures has both.

    Args:
        structures: The structures.
        amounts: From tuples of names of structures to what they share, aₖ. The empty tuple has what
            no structure cuts.

    Example:

    >>> import keras, tfprune
    >>> chain = keras.Sequential([keras.Input((4,)), *map(keras.layers.Dense, (8, 8, 2))])
    >>> first, second = (s.name for s in tfprune.find_structures(chain))
    >>> left = LeftOver(tfprune.find_structures(chain), {(first,): 40, (first, second): 64})
    >>> left({first: 4, second: 4})
    36.0
    """

    def __init__(self, structures: Sequence[Structure], amounts: Mapping[tuple[str, ...], float]):
        self._names = [s.name for s in structures]
        self._groups = np.array([s.groups for s in structures], "float64")
        place = {name: i for i, name in enumerate(self._names)}
        self._constant = float(amounts.get((), 0.0))
        terms = [(names, amount) for names, amount in amounts.items() if names and amount]
        self._amounts = np.array([amount for _, amount in terms], "float64")
        most = max((len(names) for names, _ in terms), default=0)
        # A factor that a term does not have is the one behind all shares.
        self._factors = [
            np.array([place[names[k]] if k < len(names) else len(place) for names, _ in terms])
            for k in range(most)
        ]

    def __call__(self, counts: Mapping[str, Any]) -> Any:
        """What is left with so many groups of each structure.

        Args:
            counts: Structure name to the number of groups left: numbers, arrays or tensors of one
                shape, `(subnetworks,)` for instance. With tensors the result is differentiable.

        Returns:
            A number, array or tensor of that shape.
        """
        values = [counts[name] for name in self._names]
        if any(ops.is_tensor(value) for value in values):
            return self._of_tensors(values)
        shares = np.array(values, "float64").T / self._groups
        shares = np.concatenate([shares, np.ones((*shares.shape[:-1], 1))], axis=-1)
        product = self._amounts
        for places in self._factors:
            product = product * shares[..., places]
        left = self._constant + product.sum(axis=-1)
        return float(left) if left.ndim == 0 else left

    def _of_tensors(self, values):
        values = [ops.cast(value, "float32") for value in values]
        shares = ops.stack(values, axis=-1) / self._groups.astype("float32")
        shares = ops.concatenate([shares, ops.ones_like(shares[..., :1])], axis=-1)
        product = self._amounts.astype("float32")
        for places in self._factors:
            product = product * ops.take(shares, places, axis=-1)
        return self._constant + ops.sum(product, axis=-1)


def weights_left(structures: Sequence[Structure]) -> LeftOver:
    """The weights of structures that are left, each counted once, whatever cuts into it."""
    return LeftOver(structures, amounts_of(structures))


def amounts_of(
    structures: Iterable[Structure], of_weight: Callable[[keras.Variable], float] = lambda _: 1.0
) -> dict[tuple[str, ...], float]:
    """What the variables of structures amount to, by what cuts into it, as `LeftOver` takes it.

    Args:
        structures: The structures.
        of_weight: What each weight of a variable counts.
    """
    amounts: dict[tuple[str, ...], float] = {}
    for cut in by_variable(structures):
        each = of_weight(cut.variable)
        for parts in product(*_parts_of_axes(cut)):
            names = tuple(sorted(name for name, _ in parts if name))
            number = int(np.prod([length for _, length in parts]))
            amounts[names] = amounts.get(names, 0.0) + number * each
    return amounts


def _parts_of_axes(cut: CutVariable) -> list[list[tuple[str, int]]]:
    """For each axis, whose positions it has and how many; the name is empty where nobody's."""
    axes = []
    for axis, length in enumerate(cut.variable.shape):
        parts = [
            (structure.name, structure.groups * structure.positions_of_a_group(share))
            for structure, share in cut.shares
            if share.axis == axis
        ]
        rest = length - sum(number for _, number in parts)
        axes.append([*parts, *([("", rest)] if rest else [])])
    return axes
