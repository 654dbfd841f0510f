"""Soft movement pruning: a penalty lowers the scores, and a rising threshold masks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tfprune.fit.state import State
from tfprune.fit.strengths import strength_of_each
from tfprune.gates import MovementScores
from tfprune.gates.gate_penalties import ScorePenalty
from tfprune.schedules import scheduled
from tfprune.structures import Structures

# τ_f: what has σ(S) at or below this is masked in the end.
FINAL_THRESHOLD = 0.1


class SoftMovement:
    """Masks all with `σ(S) <= τ`, and puts `λ σ(S)` into the loss; τ and a numeric λ grow.

    Args:
        gates: The gates with the scores.
        structures: Their structures.
        strength: λ, as in `MovementPruning`.
        state: Holds λ and the penalties.
        grown: Gives the share of their last values that τ and λ have at a step.

    Source: Lagunas et al., "Block Pruning For Faster Transformers", 2021, section 3.
    """

    def __init__(
        self,
        gates: Sequence[MovementScores],
        structures: Structures,
        strength: float | Mapping[str, float] | Callable,
        state: State,
        grown: Callable[[int], float],
    ):
        self._gates = gates
        self._state = state
        self._grown = grown
        self._grows = not callable(strength)
        whole_heads = {g.structure.name for g in gates if g.structure.kind == "heads"} - {
            g.structure.name for g in gates if g.in_blocks
        }
        small = set() if isinstance(strength, Mapping) else whole_heads
        each = strength_of_each(strength, structures)
        # Structure by structure, a function of the step since `start` and a factor.
        self._strengths = [
            (scheduled(value, "strength"), 1 / 32 if s.name in small else 1.0)
            for s, value in zip(structures, each, strict=True)
        ]
        names = [s.name for s in structures]
        matrices = Counter(gate.structure.kind for gate in gates)
        for gate in gates:
            place = names.index(gate.structure.name)
            share = 1 / (len(matrices) * matrices[gate.structure.kind])
            state.add_penalty(ScorePenalty(gate, state.strengths, place, share))

    def mask(self, step: int) -> None:
        """Sets λ and τ as they are at a step."""
        since_start = self._state.since_start(step)
        grown = self._grown(step)
        share = grown if self._grows else 1.0
        strengths = [strength(since_start) * factor * share for strength, factor in self._strengths]
        self._state.strengths.assign(np.asarray(strengths, "float32"))
        self._set_threshold(FINAL_THRESHOLD * grown)

    def end(self, step: int) -> None:
        """Sets τ as it is in the end."""
        self._set_threshold(FINAL_THRESHOLD)

    def _set_threshold(self, threshold):
        for gate in self._gates:
            gate.set_threshold(math.log(threshold / (1 - threshold)) if threshold else -1e9)
