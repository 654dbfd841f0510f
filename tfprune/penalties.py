"""Group lasso: the penalty that makes groups of weights shrink to zero together.

`R(W) = Σ_g √d_g · ‖w_g‖₂`, where `d_g` counts the weights of group `g`.

Source: Behnke & Heafield, "Pruning Neural Machine Translation for Speed Using Group Lasso",
WMT 2021, equation 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfprune.arguments import integer, number, one_of
from tfprune.structures import Structure
from tfprune.structures.structure import checked_structure

_GROUPS = ("rows", "columns")
_MODES = ("joint", "rowcol")


def safe_sqrt(x: Any) -> Any:
    """Square root whose gradient at exactly zero is zero instead of infinite."""
    positive = x > 0
    return ops.where(positive, ops.sqrt(ops.where(positive, x, 1.0)), 0.0)


def block_norms(matrix: Any, block: tuple[int, int] = (8, 8)) -> Any:
    """Euclidean norm of each rectangle of a matrix.

    Args:
        matrix: Tensor `(rows, columns)`; sizes need not be divisible, the last blocks are smaller.
        block: Height and width of a rectangle.

    Returns:
        Tensor `(ceil(rows / height), ceil(columns / width))`.

    Raises:
        ValueError: If `matrix` is none, or `block` is not two positive integers.
    """
    rows, columns = _sides(matrix)
    height, width = _checked_block("block", block)
    down, across = -(-rows // height), -(-columns // width)
    squares = ops.square(ops.cast(matrix, "float32"))
    squares = ops.pad(squares, [[0, down * height - rows], [0, across * width - columns]])
    return safe_sqrt(ops.sum(ops.reshape(squares, (down, height, across, width)), axis=(1, 3)))


@keras.saving.register_keras_serializable("tfprune")
class GroupLassoRegularizer(keras.regularizers.Regularizer):
    """Group lasso over the rows, columns or blocks of one matrix.

    For groups that span several matrices, such as a unit of a feed-forward pair or a head, use the
    callback `tfprune.callbacks.GroupLasso`.

    Args:
        strength: Loss units for each unit of `√d_g · ‖w_g‖₂`.
        groups: `"rows"`, `"columns"` or the height and width of a block, such as `(8, 8)`.

    Raises:
        ValueError: If `strength` is negative or not finite, or `groups` is unknown.

    Example:

    >>> layer = keras.layers.Dense(4, kernel_regularizer=GroupLassoRegularizer(0.01, "columns"))
    """

    def __init__(self, strength: float = 0.01, groups: str | Sequence[int] = "columns"):
        self.strength = checked_strength(strength)
        self.groups: str | tuple[int, int]
        if isinstance(groups, str) and groups in _GROUPS:
            self.groups = groups
        else:
            self.groups = _checked_block("groups", groups, "'rows', 'columns' or ")

    def __call__(self, x: Any) -> Any:
        """The penalty on a matrix `(rows, columns)`, a scalar.

        Raises:
            ValueError: If it is no matrix.
        """
        _sides(x)
        if isinstance(self.groups, tuple):
            block = self.groups
        else:
            block = (1, x.shape[1]) if self.groups == "rows" else (x.shape[0], 1)
        sizes = _block_sizes(x.shape, block)
        return self.strength * ops.sum(np.sqrt(sizes).astype("float32") * block_norms(x, block))

    def get_config(self) -> dict[str, Any]:
        """The configuration."""
        return {"strength": self.strength, "groups": self.groups}


def _sides(matrix) -> tuple[int, int]:
    shape = tuple(getattr(matrix, "shape", ()))
    if len(shape) != 2:
        raise ValueError(
            "`matrix` must have rows and columns, as the kernel of a dense layer; of a convolution "
            "the callback `GroupLasso` knows the groups. Received: an array or tensor of shape "
            f"{shape}"
        )
    return shape


def _checked_block(name, block, others="") -> tuple[int, int]:
    try:
        height, width = (integer(name, size) for size in block)
    except (TypeError, ValueError):
        raise ValueError(
            f"`{name}` must be {others}the height and width of a block, positive integers such as "
            f"(8, 8). Received: {name}={block!r}"
        ) from None
    return height, width


def _block_sizes(shape, block):
    def lengths(total, size):
        return [min(size, total - start) for start in range(0, total, size)]

    return np.outer(lengths(shape[0], block[0]), lengths(shape[1], block[1]))


def checked_strength(strength: float) -> float:
    """The strength, if it is a number that can be one."""
    if (
        isinstance(strength, bool)
        or not isinstance(strength, (int, float, np.number))
        or not math.isfinite(strength)
        or strength < 0
    ):
        raise ValueError(
            f"`strength` must be a finite number, 0 or more. Received: strength={strength!r}"
        )
    return float(strength)


# -- the same over structures -----------------------------------------------------------------


def connection_norms(structure: Structure) -> list[tuple[Any, int]]:
    """Norms of the single rows and columns that make up the groups of a structure.

    A column's bias element belongs to it.

    Args:
        structure: A structure.

    Returns:
        For each matrix, a tensor `(groups, connections in a group)` and the number of weights in
        one row or column.
    """
    return [(safe_sqrt(total), size) for total, size in _by_connection(structure, ops.square)]


def connection_sums(structure: Structure) -> list[Any]:
    """Absolute sums of the single rows and columns that make up the groups of a structure.

    A column's bias element belongs to it.

    Args:
        structure: A structure.

    Returns:
        For each matrix, a tensor `(groups, connections in a group)`.
    """
    return [total for total, _ in _by_connection(structure, ops.abs)]


def _by_connection(structure, measure):
    """The sums of a measure over rows and columns, and the number of weights in one of them."""
    sums: dict[tuple[int, str], list[Any]] = {}
    for share in structure.trained:
        value = measure(ops.cast(ops.convert_to_tensor(share.variable), "float32"))
        others = [a for a in range(len(value.shape)) if a not in share.connection_axes]
        size = int(np.prod([value.shape[a] for a in others])) if others else 1
        along = ops.sum(value, axis=others) if others else value
        entry = sums.setdefault((id(share.layer), share.role), [0.0, 0])
        entry[0] = entry[0] + structure.by_group(along, share)
        entry[1] += size
    return [(total, size) for total, size in sums.values()]


def penalty(structure: Structure, groups: str = "joint", factors: Any = 1.0) -> Any:
    """`Σ_g c_g · √d_g · ‖w_g‖₂` over a structure, without a strength.

    Args:
        structure: A structure.
        groups: `"joint"`: a unit or head with all its weights is one group. `"rowcol"`: each row
            and column is a group of its own, as in the paper.
        factors: The `c_g`, a tensor `(groups,)`; 1 for all by default. Rows and columns have that
            of their unit or head.

    Returns:
        Scalar tensor.

    Raises:
        ValueError: If `structure` is none or `groups` is unknown.
    """
    checked_structure(structure)
    if one_of("groups", groups, _MODES) == "joint":
        norms = safe_sqrt(structure.squared_norms())
        return math.sqrt(structure.group_size) * ops.sum(factors * norms)
    return sum(
        math.sqrt(size) * ops.sum(factors * ops.sum(norms, axis=1))
        for norms, size in connection_norms(structure)
    )


class StructurePenalty:
    """The penalty on one structure, with a strength that may change during a fit.

    Args:
        structure: The structure; all its variables count.
        strengths: Variable `(structures,)` that holds the present strengths.
        index: The structure's place in it.
        groups: As in `penalty`.
        factors: As in `penalty`, a variable or 1.
    """

    def __init__(
        self,
        structure: Structure,
        strengths: keras.Variable,
        index: int,
        groups: str = "joint",
        factors: keras.Variable | float = 1.0,
    ):
        self.structure = structure
        self.strengths = strengths
        self.index = index
        self.groups = groups
        self.factors = factors

    def __call__(self) -> Any:
        """Strength times penalty, a scalar."""
        factors = ops.convert_to_tensor(self.factors)
        return self.strengths[self.index] * penalty(self.structure, self.groups, factors)


def shrink(structure: Structure, amount: float, groups: np.ndarray | bool = True) -> None:
    """The proximal step of group lasso: each norm becomes `max(0, ‖w_g‖ - amount · √d_g)`.

    Args:
        structure: The structure, changed in place.
        amount: Learning rate times strength times number of steps.
        groups: Which groups shrink, a boolean array `(groups,)`; all by default.

    Raises:
        ValueError: If `amount` is not a finite number, 0 or more.

    Source: Yuan & Lin, "Model Selection and Estimation in Regression with Grouped Variables", 2006.
    """
    number("amount", amount, least=0)
    norms = structure.norms()
    safe = np.where(norms > 0, norms, 1.0)
    factor = np.maximum(0.0, 1.0 - amount * math.sqrt(structure.group_size) / safe)
    structure.scale(np.where(groups, factor, 1.0).astype("float32"))


def root_mean_squares(
    structure: Structure, norms: np.ndarray | None = None, groups: str = "joint"
) -> np.ndarray:
    """Root mean square of the weights of each group, an array `(groups,)`.

    Args:
        structure: A structure.
        norms: `structure.norms()`, if already computed.
        groups: `"joint"`: over all weights of a unit or head. `"rowcol"`: the largest over the
            smaller half of its rows and columns, which is what `dead_groups` compares with
            `rms_threshold`.

    Raises:
        ValueError: If `groups` is unknown.
    """
    if one_of("groups", groups, _MODES) == "joint":
        norms = structure.norms() if norms is None else norms
        return norms / math.sqrt(structure.group_size)
    each = np.sort(_connection_root_mean_squares(structure), axis=1)
    return each[:, math.ceil(each.shape[1] / 2) - 1]


def _connection_root_mean_squares(structure):
    """Root mean square of each row and column, an array `(groups, connections in a group)`."""
    return np.concatenate(
        [
            ops.convert_to_numpy(norms) / math.sqrt(size)
            for norms, size in connection_norms(structure)
        ],
        axis=1,
    )


def dead_groups(
    structure: Structure,
    threshold: float,
    groups: str = "joint",
    norms: np.ndarray | None = None,
    rms_threshold: float = 0.0,
) -> np.ndarray:
    """Which groups have shrunk to nothing.

    Args:
        structure: A structure.
        threshold: Absolute sum of its weights below which a group or a connection is dead; 1e-5 in
            the paper.
        groups: `"joint"`: a group is dead when all its weights together are below. `"rowcol"`: a
            unit is dead when its row or its column is, a head when at least half of its
            connections are.
        norms: `structure.norms()`, if already computed.
        rms_threshold: Root mean square of its weights up to which it is dead too.

    Returns:
        Boolean array `(groups,)`.

    Raises:
        ValueError: If `groups` is unknown or a threshold is no number.

    Source: Behnke & Heafield, WMT 2021, section 4 ("a sum less than 1e-5") and section 5.3 ("at
    least half of its connections").
    """
    number("threshold", threshold)
    number("rms_threshold", rms_threshold)
    joint = one_of("groups", groups, _MODES) == "joint"
    sums = np.concatenate([ops.convert_to_numpy(x) for x in connection_sums(structure)], axis=1)
    if joint:
        small = root_mean_squares(structure, norms) <= rms_threshold
        return small | (sums.sum(axis=1) < threshold)
    small = _connection_root_mean_squares(structure) <= rms_threshold
    return (small | (sums < threshold)).mean(axis=1) >= 0.5
