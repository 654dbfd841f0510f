"""A gate: one number for each group of a structure, or for each block, over its kernels."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from tfprune.gates.overlay import lay, lift, tap
from tfprune.gates.subnetworks import Subnetworks
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
        subnetworks: Where examples are told apart: the gate then has values `(names, groups)`, of
            which each example of a batch is scaled by its own. Only over consumers.

    Attributes:
        structure: The structure.
        shares: The kernels that the gate lies over.
        shape: `(groups,)`, or `(names, groups)`.
    """

    def __init__(
        self,
        structure: Structure,
        over: str = "consumers",
        name: str | None = None,
        subnetworks: Subnetworks | None = None,
    ):
        if over not in ("consumers", "all"):
            raise ValueError(f"`over` must be 'consumers' or 'all'. Received: over={over!r}")
        if over == "all" and subnetworks is not None:
            raise ValueError("`over` must be 'consumers' where there are `subnetworks`.")
        super().__init__(name=name or structure.name.replace("/", "_") + "_gate", dtype="float32")
        self.structure = structure
        slices = structure.consumers if over == "consumers" else structure.slices
        self._shares = tuple(s for s in slices if s.attribute == "kernel")
        self._laid: tuple[Any, ...] = ()
        self.subnetworks = subnetworks
        self.shape = (structure.groups,)
        if subnetworks is not None:
            self.shape = (len(subnetworks), structure.groups)

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
        """The gate of each group as the scores say, a tensor of `shape`."""
        raise NotImplementedError

    def expected(self) -> Any:
        """How likely each group is open, differentiable, a tensor of `shape`."""
        raise NotImplementedError

    def over(self, share: Slices, training: bool) -> Any:
        """What a kernel is multiplied by, a tensor that broadcasts against it."""
        return self.structure.spread(self.picked(training), share)

    # -- what follows -------------------------------------------------------------------------

    def values(self, training: bool = False) -> Any:
        """The gate of each group, a tensor of `shape`: as it was fixed, else `free`."""
        fixed = ops.convert_to_tensor(self.fixed)
        return ops.where(fixed >= 0, fixed, self.free(training))

    def picked(self, training: bool = False) -> Any:
        """The gate of each group, a tensor `(groups,)`; `(batch, groups)` in a batch of many.

        Raises:
            ValueError: If there are subnetworks, and it is not known which is meant.
        """
        values = self.values(training)
        return values if self.subnetworks is None else self.subnetworks.pick(values)

    def fix(self, values: Any) -> None:
        """Ends the choice: from now on the gate has these values, whatever the scores are.

        Args:
            values: 0 or more, of the scores' shape.
        """
        self.fixed.assign(values)

    def open_groups(self) -> np.ndarray:
        """The groups whose gate is not closed, a boolean array of `shape`."""
        return ops.convert_to_numpy(self.values()) != 0

    # -- on and off -----------------------------------------------------------------------------

    def lay(self) -> None:
        """Lays the gate over its kernels."""
        laid = []
        for share in self.shares:
            factor = self._factor(share)
            lay(share.layer, factor)
            laid.append((share.layer, factor))
            if self.subnetworks is not None and self.structure.read_as_input:
                by_example = self._by_example(share)
                tap(share.layer, by_example)
                laid.append((share.layer, by_example))
        # A tuple inside an object, lest Keras take the layers for parts of this one.
        vars(self)["_laid"] = tuple(laid)

    def _factor(self, share):
        def factor(training):
            return 1.0 if self._scales_inputs else self.over(share, training)

        return factor

    def _by_example(self, share):
        def by_example(inputs, training):
            if not self._scales_inputs:
                return inputs
            rows = ops.cast(self.picked(training), inputs.dtype)
            return inputs * self.structure.spread_over_input(rows, share, inputs)

        return by_example

    @property
    def _scales_inputs(self) -> bool:
        """Whether examples differ now: then what is read is scaled, since there is one kernel."""
        apart = self.subnetworks is not None and self.subnetworks.told_apart
        return apart and self.structure.read_as_input

    def lift(self) -> None:
        """Takes the gate off; the kernels are as training has left them."""
        for layer, factor in self._laid:
            lift(layer, factor)
        vars(self)["_laid"] = ()

    def fold(self) -> None:
        """Multiplies the gate into the weights and takes it off: the outputs stay.

        A group whose gate is closed loses all its weights, so that `rebuild` cuts it out.
        """
        if self.subnetworks is None:
            open_groups = self.open_groups()
        else:
            open_groups = ops.convert_to_numpy(self.picked()) != 0
        folded = []
        for share in self.shares:
            factor = ops.cast(self.over(share, False), share.variable.dtype)
            folded.append((share.variable, ops.convert_to_tensor(share.variable) * factor))
        self.lift()
        for variable, value in folded:
            variable.assign(value)
        if not open_groups.all():
            self.structure.scale(open_groups.astype("float32"))

    def call(self, inputs):
        """Passes its input on; a gate is never called."""
        return inputs
