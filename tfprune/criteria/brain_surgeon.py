"""The order in which groups leave when the weights that stay are fitted anew each time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfprune.criteria.consumers import Consumer

RIDGE = 1e-3
AT_ONCE = 0.01
_ROWS = 512
"""Rows of an inverse that are updated at a time, so that no second matrix is needed."""


def removal_losses(
    consumers: Sequence[Consumer], groups: int, ridge: float = RIDGE, at_once: float = AT_ONCE
) -> np.ndarray:
    """The loss at which each group leaves, when the cheapest leave first.

    With `H = XᵀX / n + λI` of what a consumer reads, centred where it has a bias, its rows `W_S` of
    a group cost `tr(W_Sᵀ [(H⁻¹)_SS]⁻¹ W_S)`; after the group has gone, `W` becomes
    `W − H⁻¹_{:,S} [(H⁻¹)_SS]⁻¹ W_S` and `H⁻¹` becomes
    `H⁻¹ − H⁻¹_{:,S} [(H⁻¹)_SS]⁻¹ H⁻¹_{S,:}`. Groups that leave in one round are chosen by their
    costs one by one; what they cost together is exact.

    Args:
        consumers: The kernels that read the groups, with `Moments`.
        groups: How many groups there are.
        ridge: λ as a share of the mean diagonal of `XᵀX / n`.
        at_once: The share of the groups left that leave in a round, at least one group.

    Returns:
        Array `(groups,)`: the least mean squared error, with the ridge, of the consumers' outputs
        without this group and all that left before it, summed over outputs and consumers.

    Source: Frantar et al., "ZipLM: Inference-Aware Structured Pruning of Language Models", 2023,
    section 3.1; Hassibi & Stork, "Second Order Derivatives for Network Pruning: Optimal Brain
    Surgeon", 1992.
    """
    sides = [_Side(consumer, groups, ridge) for consumer in consumers]
    losses, total, left = np.empty(groups), 0.0, np.arange(groups)
    while len(left):
        costs = sum(side.costs(left) for side in sides)
        number = max(1, int(at_once * len(left)))
        leave = left[np.argsort(costs, kind="stable")[:number]]
        losses[leave] = total + np.cumsum(sum(side.remove(leave) for side in sides))
        total = losses[leave[-1]]
        left = np.setdiff1d(left, leave)
        for side in sides:
            side.forget_all_but(left)
    return losses


class _Side:
    """One consumer, as groups leave.

    Args:
        consumer: The consumer, with `Moments`.
        groups: How many groups there are.
        ridge: As in `removal_losses`.
    """

    def __init__(self, consumer: Consumer, groups: int, ridge: float):
        moments = consumer.sums
        self.kernel = consumer.kernel.astype("float64")
        # The inputs of each group, (groups, inputs of a group).
        order = np.argsort(consumer.owners, kind="stable")
        others = np.count_nonzero(consumer.owners < 0)
        self.inputs, self.others = order[others:].reshape(groups, -1), order[:others]
        products = moments.covariance() if consumer.has_bias else moments.second()
        scale = max(float(np.trace(products)) / len(products), 1e-30)
        products[np.diag_indices_from(products)] += ridge * scale
        self.inverse = np.linalg.inv(products)

    def costs(self, groups: np.ndarray) -> np.ndarray:
        """What each of some groups costs by itself, an array like `groups`."""
        inputs = self.inputs[groups]
        if inputs.shape[1] == 1:
            each = inputs[:, 0]
            return np.sum(self.kernel[each] ** 2, axis=1) / self.inverse[each, each]
        rows = self.kernel[inputs]
        blocks = self.inverse[inputs[:, :, None], inputs[:, None, :]]
        return np.sum(rows * np.linalg.solve(blocks, rows), axis=(1, 2))

    def remove(self, groups: np.ndarray) -> np.ndarray:
        """Removes groups.

        Returns:
            What each of them adds to the loss when they leave one after the other, like `groups`.
        """
        gone = self.inputs[groups].reshape(-1)
        inverse, kernel = self.inverse, self.kernel
        # With (H⁻¹)_SS = L Lᵀ, the first rows of L⁻¹ W_S are those of fewer groups.
        root = np.linalg.cholesky(inverse[np.ix_(gone, gone)])
        solved = np.linalg.solve(root, np.hstack([kernel[gone], inverse[gone]]))
        lost, across = solved[:, : kernel.shape[1]], solved[:, kernel.shape[1] :]
        for start in range(0, len(inverse), _ROWS):
            rows = slice(start, start + _ROWS)
            kernel[rows] -= across[:, rows].T @ lost
            inverse[rows] -= across[:, rows].T @ across
        return np.sum(lost.reshape(len(groups), -1) ** 2, axis=1)

    def forget_all_but(self, left: np.ndarray) -> None:
        """Frees the rows of groups that have gone, once they are more than half."""
        mine = self.inputs[left].size
        inputs = np.concatenate([self.inputs[left].reshape(-1), self.others])
        if 2 * len(inputs) < len(self.inverse):
            self.kernel = self.kernel[inputs]
            self.inverse = self.inverse[np.ix_(inputs, inputs)]
            self.inputs[left] = np.arange(mine).reshape(self.inputs[left].shape)
            self.others = np.arange(mine, len(inputs))
