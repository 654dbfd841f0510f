"""Weights and optimizer as they were at one moment, to go back to."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from tfprune.model_parts import add_untrained


class Checkpoint(keras.Layer):
    """Copies of what training changes, kept on the model while it is trained.

    It is a layer so that `BackupAndRestore` saves the copies with the rest: a search that is killed
    goes on with the same checkpoint. It costs as much memory as the weights and the optimizer do.

    Args:
        variables: The variables to copy.
        groups: Groups of all structures together.
        rounds: The most rounds there can be.

    Attributes:
        left_in: `(groups,)`, the round in which each group left; 0 for those that stay.
        metric: `(rounds + 1,)`, the metric at the end of each round, NaN before.
        clock: `(5,)`: whether the checkpoint is taken, the round, the step at which it began,
            whether the search is over, and the steps of a round.
    """

    def __init__(self, variables: list[keras.Variable], groups: int, rounds: int):
        super().__init__(name="pruning_checkpoint", dtype="float32")
        self.copies = [
            add_untrained(self, f"copy_{i}", v.shape, dtype=v.dtype)
            for i, v in enumerate(variables)
        ]
        self.left_in = add_untrained(self, "left_in", (groups,))
        self.metric = add_untrained(self, "metric", (rounds + 1,), np.nan)
        self.clock = add_untrained(self, "clock", (5,))
        self.built = True

    def save(self, variables: list[keras.Variable]) -> None:
        """Copies the variables' present values."""
        for copy, variable in zip(self.copies, variables, strict=True):
            copy.assign(ops.convert_to_numpy(variable).copy())

    def restore(self, variables: list[keras.Variable]) -> None:
        """Sets the variables to the values they had."""
        for copy, variable in zip(self.copies, variables, strict=True):
            variable.assign(ops.convert_to_numpy(copy).copy())

    def call(self, inputs):
        """Passes its input on; it is never called."""
        return inputs
