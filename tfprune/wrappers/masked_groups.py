"""A mask over the groups of a layer, set by hand."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfprune.gates import Gate, Mask
from tfprune.structures import Structure
from tfprune.wrappers.gated_layer import GatedLayer


@keras.saving.register_keras_serializable("tfprune")
class MaskedGroups(GatedLayer):
    """A layer whose heads, units or other groups are masked by hand.

    Args:
        layer: As in `GatedLayer`.
        **kwargs: As in `GatedLayer`.

    Attributes:
        mask: A NumPy array `(groups,)`, ones at first, which may be set at any time: 0 removes a
            group, 1 leaves it as it is, and what lies between scales it. It is saved with the
            weights and not trained.

    Raises:
        ValueError: If `mask` is set to anything but one number from 0 to 1 for each group, or
            before the layer is built; and as `GatedLayer`.

    Source: Michel et al., "Are Sixteen Heads Really Better than One?", 2019, section 2.3.

    Example:

    What each head of a layer is worth:

    >>> import keras, numpy as np, tfprune
    >>> from tfprune.wrappers import MaskedGroups
    >>> x = inputs = keras.Input((5, 8))
    >>> heads = MaskedGroups(keras.layers.MultiHeadAttention(4, 2))
    >>> model = keras.Model(inputs, keras.layers.Dense(1)(heads(x, x)))
    >>> model.compile(loss="mse")
    >>> data = np.random.default_rng(0).normal(size=(16, 5, 8)).astype("float32")
    >>> for head in range(4):
    ...     heads.mask = np.arange(4) != head
    ...     loss_without = model.evaluate(data, data[..., :1], verbose=0)
    >>> heads.mask = [1, 0, 0, 1]
    >>> small = tfprune.rebuild(model)
    >>> [layer for layer in small.layers if "attention" in layer.name][0].num_heads
    2
    """

    def make_gates(self, structure: Structure, over: str | None) -> list[Gate]:
        """A mask."""
        return [Mask(structure, over or "consumers")]

    @property
    def mask(self) -> Any:
        """The mask, an array `(groups,)`."""
        self._check_built("mask")
        return ops.convert_to_numpy(self.gate.fixed)

    @mask.setter
    def mask(self, mask: Any) -> None:
        self._check_built("mask")
        self.gate.fix(mask)

    def __setattr__(self, name, value):
        if name == "mask":
            object.__setattr__(self, name, value)  # Past Keras, which would track a list.
        else:
            super().__setattr__(name, value)
