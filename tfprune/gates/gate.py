"""A gate: one number for each group of a structure, or for each block, on its weights."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from tfprune.arguments import number, one_of
from tfprune.gates.subnetworks import Subnetworks
from tfprune.model_parts import add_untrained
from tfprune.overlay.folding import folded, times
from tfprune.overlay.transforms import hook_input, remove, transform_weight
from tfprune.structures import Slices, Structure
from tfprune.structures.structure import checked_structure


class Gate(keras.layers.Layer):
    """Base of the gates. It holds the trained scores and multiplies weights of one structure.

    A gate scales the weights that read a group, `(a ⊙ g) W = a (diag(g) W)`, so it works on any
    structure, whatever its layers are and whatever their weights are called.

    Args:
        structure: The structure.
        over: `"consumers"`: the weights that read the groups. `"all"`: the kernels that make them
            as well, from which the scores then learn too. `"producers"`: all that makes them,
            biases included.
        name: Name of the layer; made from the structure's by default.
        subnetworks: Where examples belong to subnetworks: the gate then has values
            `(names, groups)`, of which each example of a batch is scaled by its own. Only over
            consumers.

    Attributes:
        structure: The structure.
        shares: The slices of weights that the gate multiplies.
        shape: `(groups,)`, or `(names, groups)`.
        wanted_size: What holds the size of the model, for gates that follow it, or `None`.
        draws: What it draws its values with while training, or `None`.
        permanent: Whether it is part of one of the model's layers, as in `tfprune.wrappers`, and
            stays applied when a fit is over.

    Raises:
        ValueError: If `structure` is none, `over` is unknown, or not `"consumers"` where there are
            `subnetworks`.
    """

    wanted_size: Any = None
    permanent = False
    draws: keras.random.SeedGenerator | None = None

    def __init__(
        self,
        structure: Structure,
        over: str = "consumers",
        name: str | None = None,
        subnetworks: Subnetworks | None = None,
    ):
        checked_structure(structure)
        one_of("over", over, _OVER)
        if subnetworks is not None and not isinstance(subnetworks, Subnetworks):
            raise ValueError(
                "`subnetworks` must be a `tfprune.gates.Subnetworks` or None. Received: "
                f"subnetworks={subnetworks!r}"
            )
        if over != "consumers" and subnetworks is not None:
            raise ValueError("`over` must be 'consumers' where there are `subnetworks`.")
        if subnetworks is not None and not structure.can_differ_by_example:
            raise ValueError(
                f"`subnetworks` cannot be told apart over structures of the kind "
                f"{structure.kind!r}, such as {structure.name!r}: no layer reads its groups as "
                "the last axes of its input. Leave the kind out of `structures`."
            )
        super().__init__(name=name or structure.name.replace("/", "_") + "_gate", dtype="float32")
        self.structure = structure
        self._over = over
        self._applied: tuple[Any, ...] = ()
        self.subnetworks = subnetworks
        self.shape: tuple[int, ...] = (structure.groups,)
        if subnetworks is not None:
            self.shape = (len(subnetworks), structure.groups)

    def _add_scores(self, shape, scale: float, initial: float) -> None:
        """Makes the trained variable, and the one that takes its place once all is decided."""
        self.score_scale = number("score_scale", scale, above=0)
        self.scores = self.add_weight(
            name="scores",
            shape=shape,
            initializer=keras.initializers.Constant(initial / scale),
            autocast=False,  # Scores move in steps that half precision does not see.
        )
        self.fixed = add_untrained(self, "fixed", shape, -1.0)
        self.built = True

    @property
    def scaled_scores(self) -> Any:
        """The scores, a tensor: the scale times the trained variable."""
        return self.score_scale * ops.convert_to_tensor(self.scores)

    def rescale(self, scale: float) -> None:
        """Changes `score_scale`; the scaled scores stay.

        Args:
            scale: A positive number.

        Raises:
            ValueError: If it is none.
        """
        number("scale", scale, above=0)
        self.scores.assign(ops.convert_to_tensor(self.scores) * (self.score_scale / scale))
        self.score_scale = scale

    def set_scores(self, scores: Any) -> None:
        """Sets the scaled scores.

        Args:
            scores: Numbers of the shape of the scores.
        """
        self.scores.assign(np.asarray(scores, "float32") / self.score_scale)

    @property
    def shares(self) -> tuple[Slices, ...]:
        """The slices of weights that the gate multiplies."""
        return _OVER[self._over](self.structure)

    # -- what a kind must say -------------------------------------------------------------------

    def free(self, training: bool = False) -> Any:
        """The gate of each group as the scores say, a tensor of `shape`."""
        raise NotImplementedError

    def expected(self) -> Any:
        """How likely each group is open, differentiable, a tensor of `shape`."""
        raise NotImplementedError

    def over(self, share: Slices, training: bool) -> Any:
        """What a weight is multiplied by, a tensor that broadcasts against it."""
        return self.structure.spread(self.picked(training), share)

    def group_scores(self) -> np.ndarray | None:
        """How important each group is by what the gate has learned, or `None` if it ranks none."""
        return None

    def does_the_same_as(self, other: Gate) -> bool:
        """Whether this gate is of the same kind as another and closes the same groups."""
        groups = {(id(share.variable), share.axis) for share in other.structure.slices}
        return (
            type(self) is type(other)
            and self.scores.shape == other.scores.shape
            and {(id(share.variable), share.axis) for share in self.shares} <= groups
        )

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
        """Fixes the gate: from now on it has these values and no longer follows the scores.

        Args:
            values: 0 or more, of the scores' shape.

        Raises:
            ValueError: If the shape is another, or a value is negative or not finite.
        """
        self.fixed.assign(self._checked_values(values))

    def _checked_values(self, values, most: float = math.inf, name: str = "values"):
        """The values as an array, if there is one in the range for each that is to be set."""
        shape = tuple(self.fixed.shape)
        try:
            array = ops.convert_to_numpy(values) if ops.is_tensor(values) else np.asarray(values)
            array = array.astype("float32")
            fits = array.shape == shape and bool(np.all(np.isfinite(array) & (array >= 0)))
        except (TypeError, ValueError):
            fits = False
        if not fits or np.any(array > most):
            want = (
                "finite numbers, 0 or more" if math.isinf(most) else f"numbers from 0 to {most:g}"
            )
            raise ValueError(
                f"`{name}` must be {math.prod(shape)} {want}, of shape {shape}, for the gate over "
                f"{self.structure.name!r}. Received: {name}={values!r}"
            )
        return array

    def release(self) -> None:
        """Undoes `fix`: the gate follows its scores again."""
        self.fixed.assign(np.full(self.fixed.shape, -1.0, "float32"))

    @property
    def is_fixed(self) -> bool:
        """Whether the choice has been made."""
        return bool(np.any(ops.convert_to_numpy(self.fixed) >= 0))

    def open_groups(self) -> np.ndarray:
        """The groups whose gate is not closed, a boolean array of `shape`."""
        return ops.convert_to_numpy(self.values()) != 0

    # -- on and off -----------------------------------------------------------------------------

    def apply(self) -> None:
        """Lets the gate multiply its weights wherever their layers are called."""
        if self._applied:
            return
        applied = []
        for share in self.shares:
            transform = times(self._factor(share))
            transform_weight(share.layer, share.attribute, transform, self._in_files, share.caller)
            applied.append((share.layer, transform))
            if self.subnetworks is not None and self.structure.read_as_input:
                by_example = self._by_example(share)
                hook_input(share.layer, by_example)
                applied.append((share.layer, by_example))
        # A tuple inside an object, lest Keras take the layers for parts of this one.
        self.__dict__["_applied"] = tuple(applied)

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
        apart = self.subnetworks is not None and self.subnetworks.is_per_example
        return apart and self.structure.read_as_input

    @property
    def _in_files(self) -> bool:
        """Whether files that are saved while it is applied hold the weights it has multiplied.

        A part of a layer is saved with it. No one file holds what several subnetworks compute.
        """
        return not self.permanent and self.subnetworks is None

    @property
    def is_applied(self) -> bool:
        """Whether it multiplies weights now."""
        return bool(self._applied)

    def set_structure(self, structure: Structure) -> None:
        """Says which structure's groups are meant; the gate stays on the weights it is on."""
        self.__dict__["structure"] = structure

    def remove(self) -> None:
        """Takes the gate off; the weights are as training has left them."""
        for layer, applied in self._applied:
            remove(layer, applied)
        self.__dict__["_applied"] = ()

    def folded(self) -> list[tuple[keras.Variable, Any]]:
        """The weights with the gate multiplied in: pairs of a variable and its new value.

        A group of which nothing is read any more has no weight left in any of its variables.
        """
        unread = self._unread_groups()
        values = {
            id(share.variable): folded(share.variable, [times(self._factor(share))])
            for share in self.shares
        }
        alive = ops.convert_to_tensor((~unread).astype("float32"))
        pairs = []
        for share in self.structure.slices:
            variable = share.variable
            value = values.get(id(variable))
            if value is None and not unread.any():
                continue
            value = ops.convert_to_tensor(variable) if value is None else value
            kept = ops.cast(self.structure.spread(alive, share), variable.dtype)
            pairs.append((variable, ops.where(kept == 0, ops.zeros_like(value), value)))
        return pairs

    def _unread_groups(self) -> np.ndarray:
        """The groups that nothing reads, by the gate alone, a boolean array `(groups,)`."""
        return ops.convert_to_numpy(self.picked()) == 0

    def fold(self) -> None:
        """Multiplies the gate into the weights and removes it; the outputs stay the same.

        A group whose gate is closed loses all its weights, so that `rebuild` cuts it out.
        """
        pairs = self.folded()
        self.remove()
        for variable, value in pairs:
            variable.assign(value)

    # -- saving ----------------------------------------------------------------------------------

    def save_own_variables(self, store: Any) -> None:
        """Saves how far the draws are too, with which a resumed fit goes on; Keras does not."""
        super().save_own_variables(store)
        if self.draws is not None:
            store[_DRAWS] = ops.convert_to_numpy(self.draws.state)

    def load_own_variables(self, store: Any) -> None:
        """Loads what `save_own_variables` saved; a file may be without the draws."""
        held = {key: store[key] for key in store.keys()}  # noqa: SIM118  # No mapping.
        draws = held.pop(_DRAWS, None)
        super().load_own_variables(held)
        if draws is not None and self.draws is not None:
            self.draws.state.assign(np.asarray(draws))

    def call(self, inputs: Any) -> Any:
        """Passes its input on; a gate is never called."""
        return inputs


_DRAWS = "draws"


def _consumers(structure):
    return structure.consumers


def kernels_of(structure: Structure) -> tuple[Slices, ...]:
    """The kernels: what reads the groups, and what makes them but for biases."""
    return tuple(s for s in structure.slices if s.role == "consumer" or s.is_matrix)


def _producers(structure):
    return structure.producers


_OVER = {"consumers": _consumers, "all": kernels_of, "producers": _producers}
