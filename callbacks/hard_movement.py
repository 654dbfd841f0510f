"""Hard movement pruning: the lowest scores are masked, more and more of them by a schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from keras import ops

from tfprune.gates import MovementScores
from tfprune.structures import Structure


class HardMovement:
    """Masks by rank: as many groups, and the same share of blocks, as a schedule removes.

    Args:
        gates: The gates with the scores.
        progress: Gives how far masking is at a step, as `survivors` takes it.
        survivors: Gives the groups that stay at that point, structure name to boolean array.
        share_of_blocks: Gives the share of all blocks that is masked at that point.
        pruned: Gives the groups of a structure that are pruned already, a boolean array.

    Source: Sanh et al., "Movement Pruning", 2020, section 4.
    """

    def __init__(
        self,
        gates: Sequence[MovementScores],
        progress: Callable[[int], float],
        survivors: Callable[[float], dict[str, np.ndarray]],
        share_of_blocks: Callable[[float], float],
        pruned: Callable[[Structure], np.ndarray],
    ):
        self._of_groups = [g for g in gates if not g.in_blocks]
        self._of_blocks = [g for g in gates if g.in_blocks]
        self._progress = progress
        self._survivors = survivors
        self._share_of_blocks = share_of_blocks
        self._pruned = pruned

    def mask(self, step: int) -> None:
        """Masks what the schedule removes at a step."""
        progress = self._progress(step)
        keep = self._survivors(progress)
        for gate in self._of_groups:
            gate.set_mask(keep[gate.structure.name])
        self._mask_blocks(progress)

    def end(self, step: int) -> None:
        """Masks the blocks that go at the last step; the groups that stay are selected by rank."""
        self._mask_blocks(self._progress(step))

    def _mask_blocks(self, progress):
        if not self._of_blocks:
            return
        scores = np.concatenate([self._scores(gate).ravel() for gate in self._of_blocks])
        lowest = int(self._share_of_blocks(progress) * len(scores))
        stay = np.ones(len(scores), bool)
        stay[np.argsort(scores, kind="stable")[:lowest]] = False
        ends = np.cumsum([g.scores.shape[0] * g.scores.shape[1] for g in self._of_blocks])
        for gate, mask in zip(self._of_blocks, np.split(stay, ends[:-1]), strict=True):
            gate.set_mask(mask.reshape(gate.scores.shape))

    def _scores(self, gate):
        """S; lowest of all for what is pruned already, which counts as masked."""
        scores = ops.convert_to_numpy(gate.scaled_scores)
        return np.where(gate.blocks_within(self._pruned(gate.structure)), -np.inf, scores)
