"""A mask that is set by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from tfprune.gates.gate import Gate
from tfprune.model_parts import add_untrained
from tfprune.structures import Structure


class Mask(Gate):
    """One number for each group that is set and not trained.

    Args:
        structure: The structure.
        over: As in `Gate`.
        name: Name of the layer.

    Attributes:
        fixed: Variable `(groups,)` that holds the mask, ones at first.

    Source: Michel et al., "Are Sixteen Heads Really Better than One?", 2019, section 2.3.

    Example:

    >>> import keras, numpy as np, tfprune
    >>> from tfprune.gates import attach
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(3, "relu"), keras.layers.Dense(1)])
    >>> gates = attach(model, [Mask(s) for s in tfprune.find_structures(model)])
    >>> gates[0].fix([1, 0, 1])
    >>> tfprune.find_structures(tfprune.rebuild(model))[0].groups
    2
    """

    def __init__(self, structure: Structure, over: str = "consumers", name: str | None = None):
        super().__init__(structure, over, name)
        self.fixed = add_untrained(self, "mask", self.shape, 1.0)
        self.built = True

    def free(self, training: bool = False) -> Any:
        """The mask, a tensor `(groups,)`."""
        return ops.convert_to_tensor(self.fixed)

    def expected(self) -> Any:
        """The mask, a tensor `(groups,)`."""
        return self.free()

    def fix(self, values: Any) -> None:
        """Sets the mask.

        Args:
            values: `(groups,)`, each from 0 (removed) to 1 (as it is).

        Raises:
            ValueError: If the shape is another or a value is out of range.
        """
        self.fixed.assign(self._checked_values(values, 1.0, "mask"))

    def release(self) -> None:
        """Opens every group."""
        self.fixed.assign(np.ones(self.shape, "float32"))
