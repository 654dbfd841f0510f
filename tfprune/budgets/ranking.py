"""The order in which groups are removed, lowest scores first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from tfprune.arguments import integer, one_of
from tfprune.criteria.structure_scores import StructureScores


@dataclass(frozen=True)
class Ranking:
    """Blocks of groups in the order in which they are removed.

    A block is a run of groups of one structure, in the order of their scores: one group, or as many
    as `round_to` removes together. Groups that a structure cannot do without are in none.

    Args:
        owner: The structure of each block, `(blocks,)`.
        start: Where it starts in the order of its structure, `(blocks,)`.
        size: Groups in it, `(blocks,)`.
        orders: The groups of each structure, lowest score first.
        steps: The multiples of which groups of each structure are to be left.
    """

    owner: np.ndarray
    start: np.ndarray
    size: np.ndarray
    orders: Sequence[np.ndarray]
    steps: Sequence[int]

    def groups(self, block: int) -> np.ndarray:
        """The numbers of the groups in a block."""
        start = self.start[block]
        return self.orders[self.owner[block]][start : start + self.size[block]]

    def groups_left(self, index: int, blocks: int) -> np.ndarray:
        """Which groups of a structure stay without its first blocks, `(groups,)`."""
        order = self.orders[index]
        stay = np.ones(len(order), bool)
        stay[order[: self.removed(index)[blocks]]] = False
        return stay

    def removed(self, index: int) -> np.ndarray:
        """Groups of a structure in the first 0, 1, 2 ... of its blocks."""
        return np.concatenate([[0], np.cumsum(self.size[self.owner == index])])

    def sorted_by(self, keys: np.ndarray) -> Ranking:
        """The same blocks, lowest key first."""
        order = np.argsort(keys, kind="stable")
        sorted_ = (self.owner[order], self.start[order], self.size[order])
        return Ranking(*sorted_, self.orders, self.steps)


def ranked(structures, scores, within="model", per_cost=False, round_to=None) -> Ranking:
    """All groups in the order in which they are removed; the arguments are those of `choose`.

    Raises:
        ValueError: If `within` gives no such order, or another argument is out of range.
    """
    one_of("within", within, ("model", "kind", "layer"))
    scores = checked_scores(structures, scores)
    sizes = _block_sizes(structures, {} if round_to is None else round_to)
    orders: list[np.ndarray] = []
    blocks: list[tuple[np.ndarray, ...]] = []
    for index, (structure, step) in enumerate(zip(structures, sizes, strict=True)):
        value = scores[structure.name] / (structure.group_size if per_cost else 1)
        order = np.argsort(value, kind="stable")
        # What is left must be a multiple of the step, so the first block has what is over.
        first = structure.groups % step or step
        ends = np.arange(first, structure.groups + 1, step)
        ends = ends[structure.groups - ends >= structure.least]
        starts = np.concatenate([[0], ends])[:-1].astype(int)
        groups = ends - starts
        mean = np.array([value[order][a:b].mean() for a, b in zip(starts, ends, strict=True)])
        orders.append(order)
        blocks.append((np.full(len(starts), index), starts, groups, mean))
    owner, start, size, score = map(np.concatenate, zip(*blocks, strict=True))
    ranking = Ranking(owner, start, size, orders, sizes)
    by_score = np.argsort(score, kind="stable")
    if within == "model":
        return ranking.sorted_by(score)
    kinds = [s.kind for s in structures]
    family = (
        np.array([kinds.index(k) for k in kinds]) if within == "kind" else np.arange(len(kinds))
    )
    member = family[owner]
    share = np.empty(len(owner))  # Of its family without a block and those before it.
    groups_of = np.bincount(family, [s.groups for s in structures])
    for one in np.unique(member):
        mine = by_score[member[by_score] == one]
        share[mine] = np.cumsum(size[mine]) / groups_of[one]
    return ranking.sorted_by(share)


def _block_sizes(structures, round_to) -> list[int]:
    if not isinstance(round_to, Mapping):
        raise ValueError(
            "`round_to` must map kinds to numbers, such as {'ffn': 8}. "
            f"Received: round_to={round_to!r}"
        )
    unknown = {kind for kind in round_to if kind not in structures.kinds}
    if unknown:
        raise ValueError(
            f"`round_to` names kinds that are not pruned: {', '.join(map(str, unknown))}. "
            f"Kinds: {', '.join(structures.kinds)}"
        )
    try:
        steps = {kind: integer(kind, n) for kind, n in round_to.items()}
    except ValueError:
        raise ValueError(
            f"`round_to` must hold positive integers. Received: round_to={round_to!r}"
        ) from None
    return [steps.get(s.kind, 1) for s in structures]


def checked_scores(structures: Sequence, scores) -> StructureScores:
    """The scores of each structure by name, from a criterion or a mapping, as `choose` takes them.

    What is known of `StructureScores` stays known.

    Raises:
        ValueError: If some are missing, are NaN or have another shape than `(groups,)`.
    """
    if not callable(scores) and not isinstance(scores, Mapping):
        raise ValueError(
            "`scores` must be a criterion, or map names of structures to scores. "
            f"Received: scores={scores!r}"
        )
    checked = {}
    for structure in structures:
        if callable(scores):
            value = scores(structure)
        elif structure.name in scores:
            value = scores[structure.name]
        else:
            raise ValueError(f"`scores` holds none for {structure.name!r}.")
        try:
            value = np.asarray(keras.ops.convert_to_numpy(value), "float64")
        except (TypeError, ValueError):
            raise ValueError(
                f"`scores` must give {structure.groups} numbers for {structure.name!r}. Received: "
                f"{value!r}"
            ) from None
        if value.shape != (structure.groups,) or np.isnan(value).any():
            raise ValueError(
                f"`scores` must give {structure.groups} numbers for {structure.name!r}. Received: "
                f"shape {value.shape}" + ", with NaN" * bool(np.isnan(value).any())
            )
        checked[structure.name] = value
    kind = scores if isinstance(scores, StructureScores) else StructureScores({})
    return kind.replaced(checked)
