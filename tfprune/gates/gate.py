"""A gate: one number for each group of a structure, or for each block, over its kernels."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from tfprune.gates.overlay import lay, lift
from tfprune.structures import Slices, Structure


class Gate(keras.Layer):
    """Base of the gates. It holds the trained scores and lies over kernels of one structure.

    A gate scales the kernels that read a group, `(a ⊙ g) W = a (diag(g) W)`, so it works on any
    structure, whatever its layers are.

    Args:
        structure: The structure.
        over: `"consumers"`: the kernels that read the groups. `"all"`: those that make them too,
            from which the scores then learn as well.
        name: Name of the layer; made from the structure's by default.

    Attributes:
        structure: The structure.
        shares: The kernels that the gate lies over.
    """

    def __init__(self, structure: Structure, over: str = "consumers", name: str | None = None):
        if over not in ("consumers", "all"):
            raise ValueError(f"`over` must be 'consumers' or 'all'. Received: over={over!r}")
        super().__init__(name=name or structure.name.replace("/", "_") + "_gate", dtype="float32")
        self.structure = structure
        slices = structure.consumers if over == "consumers" else structure.slices
        self._shares = tuple(s for s in slices if s.attribute == "kernel")
        self._laid: tuple[Any, ...] = ()

    def _add_scores(self, shape, scale: float, initial: float) -> None:
        """Makes the trained variable, and the one that takes its place once all is decided."""
        if not scale > 0:
            raise ValueError(f"`score_scale` must be positive. Received: score_scale={scale!r}")
        self.score_scale = scale
        self.scores = self.add_weight(
            name="scores",
            shape=shape,
            initializer=keras.initializers.Constant(initial / scale),
            autocast=False,  # Scores move in steps that half precision does not see.
        )
        self.fixed = self.add_weight(
            name="fixed", shape=shape, initializer="zeros", trainable=False, autocast=False
        )
        self.fixed.assign(np.full(shape, -1.0, "float32"))
        self.built = True

    @property
    def scaled_scores(self) -> Any:
        """The scores, a tensor: the scale times the trained variable."""
        return self.score_scale * ops.convert_to_tensor(self.scores)

    @property
    def shares(self) -> tuple[Slices, ...]:
        """The kernels that the gate lies over."""
        return self._shares

    # -- what a kind must say -------------------------------------------------------------------

    def free(self, training: bool = False) -> Any:
        """The gate of each group as the scores say, a tensor `(groups,)`."""
        raise NotImplementedError

    def expected(self) -> Any:
        """How likely each group is open, differentiable, a tensor `(groups,)`."""
        raise NotImplementedError

    def over(self, share: Slices, training: bool) -> Any:
        """What a kernel is multiplied by, a tensor that broadcasts against it."""
        return self.structure.spread(self.values(training), share)

    # -- what follows -------------------------------------------------------------------------

    def values(self, training: bool = False) -> Any:
        """The gate of each group, a tensor `(groups,)`: as it was fixed, else `free`."""
        fixed = ops.convert_to_tensor(self.fixed)
        return ops.where(fixed >= 0, fixed, self.free(training))

    def fix(self, values: Any) -> None:
        """Ends the choice: from now on the gate has these values, whatever the scores are.

        Args:
            values: 0 or more, of the scores' shape.
        """
        self.fixed.assign(values)

    def open_groups(self) -> np.ndarray:
        """The groups whose gate is not closed, a boolean array `(groups,)`."""
        return ops.convert_to_numpy(self.values()) != 0

    # -- on and off -----------------------------------------------------------------------------

    def lay(self) -> None:
        """Lays the gate over its kernels."""
        laid = []
        for share in self.shares:

            def factor(training, share=share):
                return self.over(share, training)

            lay(share.layer, factor)
            laid.append((share.layer, factor))
        # A tuple inside an object, lest Keras take the layers for parts of this one.
        vars(self)["_laid"] = tuple(laid)

    def lift(self) -> None:
        """Takes the gate off; the kernels are as training has left them."""
        for layer, factor in self._laid:
            lift(layer, factor)
        vars(self)["_laid"] = ()

    def fold(self) -> None:
        """Multiplies the gate into the weights and takes it off: the outputs stay.

        A group whose gate is closed loses all its weights, so that `rebuild` cuts it out.
        """
        closed = ~self.open_groups()
        folded = []
        for share in self.shares:
            factor = ops.cast(self.over(share, False), share.variable.dtype)
            folded.append((share.variable, ops.convert_to_tensor(share.variable) * factor))
        self.lift()
        for variable, value in folded:
            variable.assign(value)
        if closed.any():
            self.structure.scale((~closed).astype("float32"))

    def call(self, inputs):
        """Passes its input on; a gate is never called."""
        return inputs
