"""Proves on numbers that a layer computes the same without heads as with these heads silenced.

The layer is run with random weights, since its own may be zero where it was pruned before. First
as it is; then with the weights zeroed that read some of the heads; then with these heads cut out of
every variable and number. The last two must agree.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from tfprune.errors import in_one_line
from tfprune.keras_private.layers import layer_and_inner_layers, own_variables
from tfprune.keras_private.methods import replaced
from tfprune.keras_private.variables import standing_in
from tfprune.structures.by_shape.guesses import Guess, axis_outside
from tfprune.structures.by_shape.padding import picked, spread_out
from tfprune.structures.by_shape.resizing import numbers_with, set_numbers
from tfprune.structures.dense import is_dense
from tfprune.structures.groups import Groups
from tfprune.structures.slices import Slices

# Results of two programs that compute the same differ by less, as a share of the largest value.
_TOLERANCE = {"float64": 1e-4, "float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}

# For what a layer leaves open: unlikely to be a number of heads.
_BATCH, _LENGTH = 2, 5


DIFFERS = "its output is another one without some of them"


class Trial:
    """A layer with inputs and weights made of random numbers.

    Args:
        layer: A built layer.
        args: Arguments of a call. Symbolic tensors stand for random numbers.
        kwargs: Keyword arguments.
        used: Which of the tensors that it returns are compared; all of them by default.

    Raises:
        Exception: Whatever the layer raises when it is run.
    """

    def __init__(
        self,
        layer: keras.Layer,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        used: Sequence[bool] | None = None,
    ):
        self.layer = layer
        self._used = used
        draw = np.random.default_rng(0)
        self._args, self._kwargs = tree.map_structure(
            lambda x: _numbers_like(x, draw), (tuple(args), kwargs)
        )
        self._values: dict[int, tuple[keras.Variable, np.ndarray]] = {}
        for inner in layer_and_inner_layers(layer):
            for variable in own_variables(inner):
                counts = variable.trainable or isinstance(inner, keras.layers.BatchNormalization)
                if counts and "float" in str(variable.dtype):
                    self._values[id(variable)] = variable, _weights(variable, draw)
        self._dense = self.run({})
        self._tolerance = _TOLERANCE.get(layer.compute_dtype, 1e-4)

    def run(
        self,
        changed: dict[int, np.ndarray],
        numbers: Iterable[tuple[keras.Layer, dict[str, Any]]] = (),
        calls: Iterable[tuple[keras.Layer, Callable]] = (),
    ) -> list[np.ndarray]:
        """What the layer returns.

        Args:
            changed: `id` of a variable to its value, where that is another one.
            numbers: Layers, and the numbers that they keep meanwhile.
            calls: Layers inside, and what takes the place of their `call` meanwhile.
        """
        values = [(v, changed.get(key, value)) for key, (v, value) in self._values.items()]
        with ExitStack() as stack:
            stack.enter_context(_plain_calls(self.layer))
            stack.enter_context(standing_in(values))
            for layer, call in calls:
                stack.enter_context(replaced(layer, "call", call))
            for layer, own in numbers:
                stack.callback(vars(layer).update, set_numbers(layer, own))
            stack.enter_context(keras.StatelessScope())
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")  # Of an axis of one element, for instance.
            result = self.layer(*self._args, **self._kwargs)
            found = [x for x in tree.flatten(result) if hasattr(x, "shape")]
            if self._used is not None:
                found = [x for x, is_used in zip(found, self._used, strict=True) if is_used]
        return [ops.convert_to_numpy(ops.cast(x, "float32")) for x in found]

    def another(self, variable: keras.Variable) -> np.ndarray:
        """Other random numbers for a variable."""
        return self._values[id(variable)][1][::-1].copy()

    def why_not(self, guess: Guess) -> str | None:
        """Why a guess is wrong, `None` if it is right.

        Args:
            guess: A way in which heads may lie in the layer.
        """
        structure = Groups("heads", guess.groups, guess.slices)
        if any(id(share.variable) not in self._values for share in guess.slices):
            return "some of its weights are not trained"
        for kept in _tried(guess.groups):
            silenced = self._silenced(structure, kept, structure.consumers)
            try:
                expected = self.run(silenced)
                # Without its only group a layer is not cut, but a constant.
                found = self.run(*self._cut(guess, structure, kept)) if len(kept) else expected
            except Exception as error:  # Whatever user code raises.
                return f"it does not run without some of them ({in_one_line(error)})"
            if self._alike(expected, self._dense, 10):
                return "its output does not depend on them"
            if not self._alike(expected, found):
                return DIFFERS
        return None

    def silencers(self, guess: Guess) -> tuple[Slices, ...]:
        """The kernels that silence a head when they are zero, together with their biases.

        Args:
            guess: A guess that is right.
        """
        structure = Groups("heads", guess.groups, guess.slices)
        kept = np.arange(guess.groups) < guess.groups // 2
        expected = self.run(self._silenced(structure, np.flatnonzero(kept), structure.consumers))
        found = []
        for share in structure.producers:
            of_layer = [s for s in structure.producers if s.layer is share.layer]
            if not share.is_matrix or share is not of_layer[0]:
                continue
            silenced = self._silenced(structure, np.flatnonzero(kept), of_layer)
            if self._alike(expected, self.run(silenced)):
                found.append(share)
        return tuple(found)

    def _silenced(self, structure, kept, shares) -> dict[int, np.ndarray]:
        """The values of variables whose shares of all groups but some are zero."""
        values: dict[int, np.ndarray] = {}
        gone = np.setdiff1d(np.arange(structure.groups), kept)
        for share in shares:
            key = id(share.variable)
            value = values.get(key, self._values[key][1]).copy()
            value[(slice(None),) * share.axis + (structure.positions(gone, share),)] = 0
            values[key] = value
        return values

    def _cut(self, guess, structure, kept):
        """The values of variables without all groups but some, and the numbers of layers."""
        values: dict[int, np.ndarray] = {}
        shapes: dict[int, tuple[keras.Layer, dict[str, Any]]] = {}
        gone = np.setdiff1d(np.arange(structure.groups), kept)
        for share in structure.slices:
            key = id(share.variable)
            value = values.get(key, self._values[key][1])
            values[key] = np.delete(value, structure.positions(gone, share), axis=share.axis)
            shapes.setdefault(id(share.layer), (share.layer, {}))[1][share.attribute] = values[
                key
            ].shape
        if guess.is_padded:
            return values, (), [_in_place_of_whole(s, structure, kept) for s in matrices(guess)]
        numbers = [(layer, numbers_with(layer, own)) for layer, own in shapes.values()]
        # What they were built for does not hold meanwhile.
        numbers += [
            (layer, {"_input_spec": None})
            for layer, _ in shapes.values()
            if "_input_spec" in vars(layer) and not is_dense(layer)
        ]
        return values, [*numbers, *counted(guess.counts, len(kept))]

    def _alike(self, a, b, closer: float = 1.0) -> bool:
        """Whether two results are equal but for rounding."""
        if [x.shape for x in a] != [x.shape for x in b]:
            return False
        for x, y in zip(a, b, strict=True):
            known = np.isfinite(x) & (np.abs(x) < 1e8)  # Scores that are masked are very large.
            if not np.array_equal(known, np.isfinite(y) & (np.abs(y) < 1e8)):
                return False
            scale = np.max(np.abs(x[known]), initial=1e-6)
            if np.max(np.abs(x[known] - y[known]), initial=0) > closer * self._tolerance * scale:
                return False
        return True


def _tried(groups: int) -> list[np.ndarray]:
    """Which groups are kept in the trials of a guess.

    One alone, and all others: where what is taken for groups are parts of real ones, it needs the
    others of its own. And half of them.
    """
    order = np.random.default_rng(1).permutation(groups)
    sets = [np.sort(kept) for kept in (order[:1], order[1:], order[: groups // 2])]
    if groups == 1:
        return [order[:0]]
    return sets if groups > 3 else sets[:2]


def matrices(guess: Guess) -> list[Slices]:
    """The shares in the kernels of the dense layers around attention."""
    return [share for share in guess.slices if share.attribute == "kernel"]


def _in_place_of_whole(share, structure, kept) -> tuple[keras.Layer, Callable]:
    """What takes the place of the `call` of a dense layer that is cut alone."""
    plain = partial(type(share.layer).call, share.layer)
    axis, length = axis_outside(share), share.variable.shape[share.axis]
    positions = structure.positions(kept, share)

    def call(inputs, training=None):
        if share.role == "consumer":
            return plain(picked(inputs, axis, positions))
        return spread_out(plain(inputs), axis, positions, length)

    return share.layer, call


def counted(counts, groups: int) -> list[tuple[keras.Layer, dict[str, Any]]]:
    """The numbers that layers keep when so many groups are left.

    Args:
        counts: The numbers that count groups.
        groups: How many groups are left.

    Returns:
        Layers with what `set_numbers` takes.
    """
    numbers: dict[int, tuple[keras.Layer, dict[str, Any]]] = {}
    for count in counts:
        _, own = numbers.setdefault(id(count.layer), (count.layer, {}))
        value = count.per_group * groups
        if count.place is not None:
            several = list(own.get(count.attribute, vars(count.layer)[count.attribute]))
            several[count.place] = value
            value = tuple(several)
        own[count.attribute] = value
    return list(numbers.values())


@contextmanager
def _plain_calls(layer) -> Iterator[None]:
    """Takes away what stands in the place of the `call` of layers, such as gates."""
    calls: list[tuple[keras.Layer, Callable]] = []
    for inner in layer_and_inner_layers(layer):
        if "call" in vars(inner):
            calls.append((inner, vars(inner).pop("call")))
    try:
        yield
    finally:
        for inner, call in calls:
            vars(inner)["call"] = call


def _numbers_like(x, draw):
    """Random numbers for a symbolic tensor; other arguments stay as they are."""
    if not isinstance(x, keras.KerasTensor):
        return x
    shape = [n if n is not None else _LENGTH if axis else _BATCH for axis, n in enumerate(x.shape)]
    if "float" in str(x.dtype):
        return ops.convert_to_tensor(draw.normal(size=shape).astype("float32"), x.dtype)
    return ops.ones(shape, x.dtype)


def _weights(variable, draw) -> np.ndarray:
    """Numbers of the size of weights; those with one axis around one, as scales are."""
    shape = tuple(variable.shape)
    around = float(len(shape) == 1 and "bias" not in variable.name)
    each = int(np.prod(shape[1:])) if len(shape) > 1 else 4
    value = around + draw.standard_normal(shape, "float32") / max(each, 1) ** 0.5
    return (0.1 + np.abs(value) if "variance" in variable.name else value).astype("float32")
