"""Movement scores over the groups of a layer."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from tfprune.arguments import number
from tfprune.gates import BlockScores, Gate, MovementScores
from tfprune.gates.gate import kernels_of
from tfprune.gates.movement import checked_block
from tfprune.structures import Structure
from tfprune.wrappers.penalised_layer import PenalisedLayer


@keras.saving.register_keras_serializable("tfprune")
class MovementGroups(PenalisedLayer):
    """A layer whose heads, units or other groups have scores that learn by movement.

    What scores below a threshold is masked. The scores are trained with the model, in `fit` or in a
    loop of one's own, which raises the threshold with `keep`; or the callback `MovementPruning`
    does so.

    Args:
        layer: As in `GatedLayer`.
        block: Height and width of blocks, which then have the scores instead of whole groups, as in
            `tfprune.gates.BlockScores`.
        strength: λ of the penalty `λ Σ σ(S)`, which is among `wrapper.losses` and those of the
            model.
        score_scale: As in `tfprune.gates.MovementScores`.
        **kwargs: As in `GatedLayer`.

    Attributes:
        threshold: τ, a float; it may be set at any time. -1e9 at first: nothing is masked.
        strength: λ; it may be set at any time.

    Raises:
        ValueError: If `strength` is negative, `score_scale` is not positive or `block` is not two
            positive numbers, and as `GatedLayer`.

    Source: Lagunas et al., "Block Pruning For Faster Transformers", 2021, section 3.2.

    Example:

    >>> import keras, numpy as np, tfprune
    >>> from tfprune.wrappers import MovementGroups
    >>> hidden = MovementGroups(keras.layers.Dense(8, "relu"))
    >>> model = keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    >>> for share in (1.0, 0.75, 0.5):
    ...     hidden.keep(share)
    ...     history = model.fit(x, x[:, :1], verbose=0)
    >>> hidden.keep(0.5)
    >>> tfprune.find_structures(tfprune.rebuild(model))[0].groups
    4
    """

    def __init__(
        self,
        layer: keras.Layer,
        block: tuple[int, int] | None = None,
        strength: float = 0.0,
        score_scale: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(layer, strength, **kwargs)
        self.block = None if block is None else checked_block(block)
        self._score_scale = number("score_scale", score_scale, above=0)

    def make_gates(self, structure: Structure, over: str | None) -> list[Gate]:
        """A score for each group, or for each block of each kernel."""
        if self.block is None:
            return [MovementScores(structure, self._score_scale, over=over or "all")]
        return [
            BlockScores(structure, share, self.block, self._score_scale, f"blocks_{i}")
            for i, share in enumerate(kernels_of(structure))
        ]

    def penalty(self) -> Any:
        """`Σ σ(S)`."""
        return sum(ops.sum(gate.expected()) for gate in self.gates)

    @property
    def scores(self) -> Any:
        """`S` of all groups or blocks, an array."""
        self._check_built("scores")
        return np.concatenate(
            [ops.convert_to_numpy(gate.scaled_scores).reshape(-1) for gate in self.gates]
        )

    @property
    def threshold(self) -> float:
        """τ."""
        return float(ops.convert_to_numpy(self.gate.threshold))

    @threshold.setter
    def threshold(self, threshold: float) -> None:
        self._check_built("threshold")
        for gate in self.gates:
            gate.set_threshold(threshold)

    def keep(self, share: float) -> None:
        """Sets the threshold so that the highest of the present scores are above it.

        Args:
            share: The share of groups or blocks that are not masked, from 0 to 1. Of equal scores,
                as at the beginning, none or all are masked, so that more may stay.

        Raises:
            ValueError: If `share` is out of range, or the layer is not built yet.
        """
        number("share", share, least=0, most=1)
        scores = np.sort(self.scores)
        masked = round((1 - share) * len(scores))
        lowest = scores[masked] if masked < len(scores) else np.inf
        below = scores[scores < lowest]
        self.threshold = float(below[-1]) if len(below) else -1e9

    def get_config(self) -> dict[str, Any]:
        """The configuration."""
        return {
            **super().get_config(),
            "block": self.block,
            "score_scale": self.gate.score_scale if self.built else self._score_scale,
        }
