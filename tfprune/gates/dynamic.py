"""Gates that open one after the other as a larger size is set."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from tfprune.arguments import boolean, integer, number
from tfprune.gates.attaching import gates_of
from tfprune.gates.gate import Gate
from tfprune.gates.hard_concrete import BETA, HIGH, LOW, stretched
from tfprune.gates.subnetworks import Subnetworks
from tfprune.model_parts import add_untrained
from tfprune.structures import Structure

# Where the stretched sigmoid reaches 1 and 0: f⁻¹(1) and f⁻¹(0).
OPEN = math.log((1 - LOW) / (HIGH - 1))
CLOSED = math.log(-LOW / HIGH)


def size_of(model: keras.Model) -> Size | None:
    """The layer that holds the size of a model, or `None` for a model of one size."""
    sizes = (gate.wanted_size for gate in gates_of(model))
    return next((size for size in sizes if size is not None), None)


@contextmanager
def at_size(model: keras.Model, size: float | None) -> Iterator[None]:
    """Sets the size of a model inside a `with` block; `None` leaves it as it is.

    Args:
        model: A model that was trained with `tfprune.callbacks.DynamicSparsity`.
        size: From 0 to 1.

    Raises:
        ValueError: If the model has one size only, or `size` is out of range.
    """
    if size is None:
        yield
        return
    shared = size_of(model)
    if shared is None:
        raise ValueError(
            "`size` needs a model that was trained with `tfprune.callbacks.DynamicSparsity` and "
            f"still carries its gates. Received: size={size!r} and a model without"
        )
    size = float(number("size", size, above=0, most=1))
    before = float(ops.convert_to_numpy(shared.size))
    shared.size.assign(size)
    try:
        yield
    finally:
        shared.size.assign(before)


class Size(keras.Layer):
    """Holds the size that a model is to have, which all its dynamic gates read.

    Attributes:
        size: Variable that holds t, from 0 to 1.
    """

    def __init__(self, name: str = "size"):
        super().__init__(name=name, dtype="float32")
        self.size = add_untrained(self, "size", value=1.0)
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Passes its input on; it is never called."""
        return inputs


class DynamicGate(Gate):
    """A gate that is open if the size t is large enough: `g = f(α + t β)`.

    f is the stretched sigmoid of `HardConcrete`. A group that a ranking lets in at size `t̂` has
    `f(α + t̂ β) = 1` and `f(α + (t̂ − δ) β) = 0`. Since α and β become huge when δ is small, the
    gate keeps `t̂` and δ and takes the difference to t first.

    A trained gate has a gradient where its argument is not far from `[f⁻¹(0), f⁻¹(1)]`, which is
    from -2.4 to 2.4: at `t̂`, and at a smaller size if that is not many δ away. See
    `tfprune.budgets.opening_sizes.binned`.

    Args:
        structure: The structure.
        size: What holds t.
        trained: Whether α and β are trained from there, by `scores` `(2, groups)`: what is added to
            α, and the logarithm of what β is multiplied by. While training, the gate is then drawn
            as `HardConcrete` is, so that a gate that would be open or closed without a draw has a
            gradient in some of the steps.
        seed: Seed of the draws.
        score_scale: As in `HardConcrete`.
        name: Name of the layer.
        subnetworks: As in `Gate`; shapes `(groups,)` below are then `(names, groups)`.

    Raises:
        ValueError: If `size` is no `Size`, and as `HardConcrete`.

    Attributes:
        opens_at: Variable `(groups,)`, `t̂`; at first 0, which is open always.
        width: Variable `(groups,)`, δ.
        folded_value: Variable `(groups,)`, what `fold_present_size` has multiplied into the
            weights; 1 at first.

    Source: Li et al., "Probing Structured Pruning on Multilingual Pre-trained Models", 2022,
    section 6.1, equations 14 to 16, and appendix D.

    Example:

    >>> import keras, numpy as np, tfprune
    >>> from tfprune.gates import attach
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(1)])
    >>> size = Size()
    >>> gates = attach(model, [DynamicGate(s, size) for s in tfprune.find_structures(model)])
    >>> gates[0].rank(opens_at=np.array([0.25, 1.0, 0.5, 0.75]), width=np.full(4, 0.25))
    >>> _ = size.size.assign(0.5)
    >>> print(keras.ops.convert_to_numpy(gates[0].values()))
    [1. 0. 1. 0.]
    """

    def __init__(
        self,
        structure: Structure,
        size: Size,
        trained: bool = False,
        seed: int | None = None,
        score_scale: float = 1.0,
        name: str | None = None,
        subnetworks: Subnetworks | None = None,
    ):
        super().__init__(structure, "consumers", name, subnetworks)
        if not isinstance(size, Size):
            raise ValueError(f"`size` must be a `tfprune.gates.Size`. Received: size={size!r}")
        self.wanted_size = size
        self.trained = boolean("trained", trained)
        seed = integer("seed", seed, least=0, optional=True)
        self.draws = keras.random.SeedGenerator(seed)
        self._add_scores((2, *self.shape), score_scale, 0.0)
        self.scores.trainable = trained
        self.opens_at = add_untrained(self, "opens_at", self.shape)
        self.width = add_untrained(self, "width", self.shape, 1.0)
        self.folded_value = add_untrained(self, "folded_value", self.shape, 1.0)

    def rank(self, opens_at: np.ndarray, width: np.ndarray) -> None:
        """Sets the size at which each gate opens.

        Args:
            opens_at: `(groups,)`, the smallest size with the group, `t̂`.
            width: `(groups,)`, how much smaller the model is without it, δ.

        Raises:
            ValueError: If a width is not positive, a number is not finite, or there is not one of
                each for each gate.
        """
        try:
            both = np.stack([np.asarray(opens_at, "float32"), np.asarray(width, "float32")])
            fits = (
                both.shape[1:] == self.shape and np.all(np.isfinite(both)) and np.all(both[1] > 0)
            )
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise ValueError(
                f"`opens_at` must be finite and `width` positive, of shape {self.shape}. Received: "
                f"opens_at={opens_at!r}, width={width!r}"
            )
        self.opens_at.assign(both[0])
        self.width.assign(both[1])

    @property
    def beta(self) -> Any:
        """β, a tensor `(groups,)`."""
        slope = (OPEN - CLOSED) / ops.convert_to_tensor(self.width)
        return slope * ops.exp(self.scaled_scores[1])

    @property
    def alpha(self) -> Any:
        """α, a tensor `(groups,)`."""
        return self.argument(0.0)

    def argument(self, t: Any) -> Any:
        """`α + t β`, a tensor `(groups,)`."""
        # The difference to t̂ comes first: at t̂ itself it is 0, without a rounding that a steep
        # slope would make large.
        above_closed = (t - ops.convert_to_tensor(self.opens_at)) + ops.convert_to_tensor(
            self.width
        )
        return CLOSED + self.scaled_scores[0] + above_closed * self.beta

    def free(self, training: bool = False) -> Any:
        """The gate of each group at the present size."""
        x = self.argument(ops.convert_to_tensor(self.wanted_size.size))
        if training and self.trained:
            u = keras.random.uniform(x.shape, 1e-6, 1 - 1e-6, dtype="float32", seed=self.draws)
            x = (ops.log(u) - ops.log(1 - u) + x) / BETA
        return stretched(ops.sigmoid(x)) / ops.convert_to_tensor(self.folded_value)

    def fold_present_size(self) -> None:
        """Multiplies the gate at the present size into the weights, and stays over them.

        At each size the outputs stay what they were, up to groups that are closed now: these lose
        all their weights. At the present size every other gate is 1 from now on, so that the
        weights alone are the model.

        Raises:
            ValueError: If there are subnetworks, since one set of weights cannot hold several.
        """
        if self.subnetworks is not None:
            raise ValueError("`fold_present_size` needs a gate without `subnetworks`.")
        value = ops.convert_to_numpy(self.values())
        for variable, gated in self.folded():
            variable.assign(gated)
        before = ops.convert_to_numpy(self.folded_value)
        self.folded_value.assign(before * np.where(value > 0, value, 1.0))

    def values(self, training: bool = False) -> Any:
        """The gate of each group, a tensor `(groups,)`; it is never fixed."""
        return self.free(training)

    def expected(self) -> Any:
        """The chance that a drawn gate is not zero at the present size."""
        x = self.argument(ops.convert_to_tensor(self.wanted_size.size))
        return ops.sigmoid(x - BETA * math.log(-LOW / HIGH))
