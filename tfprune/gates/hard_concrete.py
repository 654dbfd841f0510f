"""L0 gates with the hard concrete distribution."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from tfprune.arguments import integer, number
from tfprune.gates.gate import Gate
from tfprune.gates.subnetworks import Subnetworks
from tfprune.model_parts import add_untrained
from tfprune.structures import Structure

BETA, LOW, HIGH = 2 / 3, -0.1, 1.1


def stretched(s: Any) -> Any:
    """`clip(s·(r − l) + l, 0, 1)`: from (0, 1) to [0, 1] with weight on both ends."""
    return ops.clip(s * (HIGH - LOW) + LOW, 0.0, 1.0)


class HardConcrete(Gate):
    """A gate that is drawn while training and fixed at inference.

    `u ~ U(0, 1)`, `s = σ((log u − log(1 − u) + α) / β)`, `g = clip(s(r − l) + l, 0, 1)`; at
    inference `s = σ(α)`. `l = −0.1`, `r = 1.1`, `β = 2/3`. The chance of being open,
    `σ(α − β log(−l / r))`, can be put into the loss.

    Args:
        structure: The structure.
        initial: α to start with. The default opens every gate fully at inference, so the model's
            outputs are as before.
        seed: Seed of the draws.
        score_scale: α is this number times the trained variable: under Adam it then moves that
            many times faster than the weights.
        name: Name of the layer.
        subnetworks: As in `Gate`.
        over: As in `Gate`.

    Attributes:
        scaled_scores: α.
        is_drawn: Variable, 1 at first; where it is 0, training sees the gate of inference.

    Raises:
        ValueError: If `score_scale` is not positive, `initial` is not finite, or `seed` is not a
            whole number, 0 or more, or `None`; and as `Gate`.

    Source: Louizos et al., "Learning Sparse Neural Networks through L0 Regularization", 2018,
    equations 10 to 13; Li et al., 2022, section 3.

    Example:

    >>> import keras, tfprune
    >>> from tfprune.gates import attach, detach
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(3, "relu"), keras.layers.Dense(1)])
    >>> gates = attach(model, [HardConcrete(s) for s in tfprune.find_structures(model)])
    >>> keras.ops.convert_to_numpy(gates[0].values())
    array([1., 1., 1.], dtype=float32)
    >>> detach(model)
    """

    def __init__(
        self,
        structure: Structure,
        initial: float = 2.5,
        seed: int | None = None,
        score_scale: float = 1.0,
        name: str | None = None,
        subnetworks: Subnetworks | None = None,
        over: str = "consumers",
    ):
        super().__init__(structure, over, name, subnetworks)
        number("initial", initial)
        self.draws = keras.random.SeedGenerator(integer("seed", seed, least=0, optional=True))
        self._add_scores(self.shape, score_scale, initial)
        self.is_drawn = add_untrained(self, "is_drawn", value=1.0)

    def free(self, training: bool = False) -> Any:
        """The gate of each group, drawn if `training`."""
        alpha = self.scaled_scores
        at_inference = stretched(ops.sigmoid(alpha))
        if not training:
            return at_inference
        u = keras.random.uniform(alpha.shape, 1e-6, 1 - 1e-6, dtype="float32", seed=self.draws)
        drawn = stretched(ops.sigmoid((ops.log(u) - ops.log(1 - u) + alpha) / BETA))
        return ops.where(ops.convert_to_tensor(self.is_drawn) > 0, drawn, at_inference)

    def expected(self) -> Any:
        """The chance that a drawn gate is not zero: `σ(α − β log(−l / r))`."""
        return ops.sigmoid(self.scaled_scores - BETA * math.log(-LOW / HIGH))
