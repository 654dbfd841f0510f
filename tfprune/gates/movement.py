"""Scores that learn by movement: a hard mask forward, the identity backward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from tfprune.arguments import integer, number
from tfprune.gates.gate import Gate, kernels_of
from tfprune.model_parts import add_untrained
from tfprune.structures import Slices, Structure

_NONE_MASKED = -1e9


def straight_through(scores: Any, threshold: Any, mask: Any = 1.0) -> Any:
    """`1(S > τ) · M`, whose gradient with respect to `S` is taken to be one everywhere.

    Args:
        scores: S, a tensor.
        threshold: τ, a scalar.
        mask: M, zeros and ones of the shape of the scores, or a scalar.

    Returns:
        A tensor of zeros and ones.

    Source: Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons", 2013.
    """
    is_open = ops.cast(scores > threshold, "float32") * ops.cast(mask, "float32")
    return is_open + (scores - ops.stop_gradient(scores))  # The bracket is exactly zero.


class MovementScores(Gate):
    """One score for each group; it is open where that is above a threshold and its mask is 1.

    `W' = W · 1(S > τ) · M`. The gradient reaches `S` as if what multiplies W were `S` itself, so a
    score rises while the weights under it move away from zero, and falls while they move towards
    it. A unit's score (`Dim` in the paper) is shared by its column of the first kernel and its row
    of the second; a head's by its query, key, value and output.

    Args:
        structure: The structure.
        score_scale: `S` is this number times the trained variable, as in `HardConcrete`.
        name: Name of the layer.
        over: As in `Gate`.

    Attributes:
        threshold: Variable that holds τ, -1e9 at first: nothing is masked.
        mask: Variable that holds M, of the shape of the scores; ones at first: nothing is masked.
            What keeps a number of groups, and not all above a threshold, sets it by `set_mask`.
        in_blocks: Whether the scores are those of blocks rather than of groups.

    Source: Lagunas et al., "Block Pruning For Faster Transformers", 2021, section 3.2; Sanh et
    al., "Movement Pruning", 2020, section 4.
    """

    in_blocks = False

    def __init__(
        self,
        structure: Structure,
        score_scale: float = 1.0,
        name: str | None = None,
        over: str = "all",
    ):
        super().__init__(structure, over, name)
        self._add_scores((structure.groups,), score_scale)

    def _add_scores(self, shape, scale, initial=0.0):
        super()._add_scores(shape, scale, initial)
        self.threshold = add_untrained(self, "threshold", value=_NONE_MASKED)
        self.mask = add_untrained(self, "mask", shape, 1.0)

    def free(self, training: bool = False) -> Any:
        """The mask of each group, 0 or 1."""
        return straight_through(self.scaled_scores, self.threshold, self.mask)

    def set_mask(self, mask: Any) -> None:
        """Sets which groups are open, whatever their scores; the threshold no longer masks.

        Args:
            mask: Zeros and ones, or booleans, of the shape of the scores.

        Raises:
            ValueError: If the shape is another, or a number is not from 0 to 1.
        """
        self.mask.assign(self._checked_values(mask, 1.0, "mask"))
        self.threshold.assign(_NONE_MASKED)

    def set_threshold(self, threshold: float) -> None:
        """Opens the groups whose score is above a threshold, and no others.

        Args:
            threshold: τ, compared with S.

        Raises:
            ValueError: If it is no finite number.
        """
        self.threshold.assign(number("threshold", threshold))
        self.mask.assign(np.ones(self.mask.shape, "float32"))

    def release(self) -> None:
        """Undoes `fix` and `set_mask`: the gate follows its scores again."""
        super().release()
        self.mask.assign(np.ones(self.mask.shape, "float32"))

    def expected(self) -> Any:
        """`σ(S)`, which the penalty sums."""
        return ops.sigmoid(self.scaled_scores)

    def group_scores(self) -> np.ndarray:
        """How important each group is, an array `(groups,)`: `S`."""
        return ops.convert_to_numpy(self.scaled_scores)


class BlockScores(MovementScores):
    """One score for each rectangle of one kernel, such as 32×32 blocks of a query's.

    Args:
        structure: The structure that the kernel belongs to.
        share: Which of its kernels.
        block: Height and width of a block, of the kernel seen as a matrix `(inputs, outputs)`:
            heads lie side by side.
        score_scale: As in `MovementScores`.
        name: Name of the layer.

    Raises:
        ValueError: If `block` is not two positive numbers, or `share` is no kernel of the
            structure.

    Source: Lagunas et al., 2021, section 3.2.
    """

    in_blocks = True

    def __init__(
        self,
        structure: Structure,
        share: Slices,
        block: tuple[int, int] = (32, 32),
        score_scale: float = 1.0,
        name: str | None = None,
    ):
        block = checked_block(block)
        Gate.__init__(self, structure, "all", name)
        if not any(share is s for s in kernels_of(structure)):
            raise ValueError(
                f"`share` must be a kernel among the `slices` of {structure.name!r}, not a bias. "
                f"Received: share={share!r}"
            )
        self.__dict__["_share"] = (
            share  # Past Keras, which would take the layer for a part of this.
        )
        self.block = block
        self.matrix = _as_matrix(share)
        grid = tuple(-(-n // size) for n, size in zip(self.matrix, block, strict=True))
        self._add_scores(grid, score_scale)

    @property
    def shares(self) -> tuple[Slices, ...]:
        """The kernel."""
        return (self._share,)

    def does_the_same_as(self, other: Gate) -> bool:
        """Whether another gate has the same blocks of the same kernel."""
        return (
            type(self) is type(other)
            and self.block == other.block
            and self._share.variable is other._share.variable
        )

    def over(self, share: Slices, training: bool) -> Any:
        """The mask of each weight, of the kernel's shape."""
        return self._spread_blocks(self.values(training))

    def open_groups(self) -> np.ndarray:
        """The groups of which any block of this kernel is open; see `of_all_kernels`."""
        return self._by_group(self.values()).any(axis=1)

    def _unread_groups(self):
        # Without its query a head is still read: it attends to all positions alike.
        is_only_reader = [s is self._share for s in self.structure.consumers] == [True]
        return ~self.open_groups() & is_only_reader

    def group_scores(self) -> np.ndarray:
        """How important each group is: the highest S among its blocks of this kernel.

        A threshold closes the group in this kernel as soon as it reaches that score.
        """
        return self._by_group(self.scaled_scores).max(axis=1)

    def close_groups(self, groups: np.ndarray) -> None:
        """Masks the blocks within some groups, whatever their scores, until masks are set anew.

        Args:
            groups: Boolean array `(groups,)`.
        """
        closed = self.blocks_within(groups).astype("float32")
        self.mask.assign(ops.convert_to_tensor(self.mask) * (1 - closed))

    def mask_that_leaves(self, groups: np.ndarray) -> np.ndarray:
        """The present mask; where it closes a group that is to stay, its best block is open.

        Args:
            groups: Boolean array `(groups,)`, true for the groups that stay.

        Returns:
            Array of the shape of the scores.
        """
        mask = ops.convert_to_numpy(self.values()).ravel().copy()
        scores = ops.convert_to_numpy(self.scaled_scores).ravel()
        numbers = np.arange(len(mask), dtype="int32").reshape(self.scores.shape)
        for blocks in self._by_group(numbers)[groups]:
            if not mask[blocks].any():
                mask[blocks[scores[blocks].argmax()]] = 1.0
        return mask.reshape(self.scores.shape)

    def filled_kernel(self, seed: int | None) -> np.ndarray:
        """The value of the kernel, with what is masked drawn anew.

        Args:
            seed: Seed of the draws.

        Returns:
            An array. What is masked is `mean + 0.01 · std · N(0, 1)` of what is not.

        Source: Lagunas et al., 2021, section 4, and its code, huggingface/nn_pruning.
        """
        value = ops.convert_to_numpy(self._share.variable).astype("float32")
        is_open = ops.convert_to_numpy(self.over(self._share, False)) != 0
        left = value[is_open] if is_open.any() else value
        drawn = np.random.default_rng(seed).normal(size=value.shape).astype("float32")
        return np.where(is_open, value, left.mean() + 0.01 * left.std() * drawn)

    def blocks_within(self, groups: np.ndarray) -> np.ndarray:
        """Which blocks hold weights of some groups and of no others.

        Args:
            groups: Boolean array `(groups,)`.

        Returns:
            Boolean array of the shape of the scores.
        """
        spread = self.structure.spread(ops.convert_to_tensor(groups.astype("float32")), self._share)
        each = np.broadcast_to(ops.convert_to_numpy(spread), self._share.variable.shape)
        each = each.reshape(self.matrix)
        for axis, size in enumerate(self.block):
            each = np.minimum.reduceat(each, np.arange(0, each.shape[axis], size), axis=axis)
        return each > 0

    def _by_group(self, blocks):
        """The value of each weight's block, an array `(groups, weights of a group)`."""
        share = self.shares[0]
        each = np.moveaxis(ops.convert_to_numpy(self._spread_blocks(blocks)), share.axis, 0)
        return self.structure.by_group(each, share)

    def _spread_blocks(self, blocks):
        for axis, size in enumerate(self.block):
            blocks = ops.repeat(blocks, size, axis=axis)
        rows, columns = self.matrix
        return ops.reshape(blocks[:rows, :columns], self.shares[0].variable.shape)


def of_all_kernels(gates: Sequence[BlockScores], values: Sequence[np.ndarray]) -> np.ndarray:
    """What holds for each group, from what the gates over the kernels of its structure say.

    A head is open, or important, as far as its query, key, value and output all are: it leaves as
    soon as one of them is masked throughout. Other groups need one kernel that makes them and one
    that reads them.

    Args:
        gates: The gates over kernels of one structure.
        values: What each says of the groups, booleans or numbers, arrays `(groups,)`.

    Returns:
        An array `(groups,)`.

    Source: the code of Lagunas et al., 2021, huggingface/nn_pruning; the output is added here.
    """
    sides: dict[str, list] = {"producer": [], "consumer": []}
    for gate, value in zip(gates, values, strict=True):
        sides[gate.shares[0].role].append(value)
    of_heads = gates[0].structure.kind == "heads"
    least = [np.minimum.reduce(sides["producer"])] if of_heads and sides["producer"] else []
    best = [np.maximum.reduce(side) for side in sides.values() if side]
    return np.minimum.reduce([*least, *best])


def checked_block(block: Any) -> tuple[int, int]:
    """Height and width of a block.

    Raises:
        ValueError: If they are not two positive integers.
    """
    try:
        height, width = (integer("block", size) for size in block)
    except (TypeError, ValueError):
        raise ValueError(
            "`block` must be two positive integers, height and width, such as (32, 32). "
            f"Received: block={block!r}"
        ) from None
    return height, width


def _as_matrix(share: Slices) -> tuple[int, int]:
    """Rows and columns of a kernel `(inputs, outputs)`; heads and their size are one axis."""
    shape = share.variable.shape
    split = 1 if share.role == "producer" else len(share.connection_axes)
    return int(np.prod(shape[:split])), int(np.prod(shape[split:]))
