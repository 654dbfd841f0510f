"""Runs files and models on the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.export.comparing import Tolerance, difference
from tfprune.export.inputs import example_inputs, is_integer, output_names
from tfprune.keras_private.functional import inputs_struct
from tfprune.keras_private.layers import layer_and_inner_layers
from tfprune.keras_private.variables import standing_in

_EXAMPLES = 8
_LENGTHS = (16, 64, 224, 4, 1)  # A model may have positions for few tokens, or need many pixels.


def check_file(
    model: keras.Model,
    run: Callable[[Sequence[np.ndarray]], Mapping[str, np.ndarray]],
    tolerance: Tolerance,
    examples: Sequence[Sequence[np.ndarray]] | None = None,
    advice: str = "",
) -> None:
    """Compares a file with the model that it came from, output by output, by name.

    Args:
        model: A Functional model.
        run: Computes the outputs of the file, by name, from the inputs in the order of the model.
        tolerance: How far they may be apart.
        examples: Batches of inputs; by default some are made up.
        advice: What the error ends with.

    Raises:
        ValueError: If an output is missing, or computes something else.
    """
    hint = advice
    if examples is None:
        examples = accepted_inputs(model)
        hint += ". It was compared on made-up inputs; `representative_data` compares it on yours"
    want: dict[str, list[np.ndarray]] = {}
    got: dict[str, list[np.ndarray]] = {}
    for arrays in examples:
        file = run(arrays)
        for name, value in zip(output_names(model), outputs_of(model, arrays), strict=True):
            if name not in file:
                raise ValueError(
                    f"The file has no output {name!r}, but {', '.join(map(repr, file))}; it was "
                    "not written."
                )
            want.setdefault(name, []).append(value)
            got.setdefault(name, []).append(np.asarray(file[name]))
    rounded: dict[str, list[np.ndarray]] = {}
    for name, values in want.items():
        for numbers in _of_one_shape(values, got[name]):
            wanted, found = (_rows([v[i] for i in numbers]) for v in (values, got[name]))
            wrong = difference(wanted, found, tolerance)
            if wrong and tolerance.rounds_weights:
                # It is far off for how little the outputs vary. So may the model itself be.
                rounded = rounded or _with_rounded_weights(model, examples)
                allowed = _rows([rounded[name][i] for i in numbers])
                wrong = difference(wanted, found, tolerance, allowed)
            if wrong:
                raise ValueError(f"Output {name!r} of the file {wrong}; it was not written{hint}.")


def _of_one_shape(values, others):
    """The numbers of the batches of each shape, or of the first whose shape is another one."""
    found: dict[tuple, list[int]] = {}
    for number, (value, other) in enumerate(zip(values, others, strict=True)):
        if value.shape != other.shape:
            return [[number]]
        found.setdefault(value.shape[1:], []).append(number)
    return list(found.values())


def _with_rounded_weights(model, examples) -> dict[str, list[np.ndarray]]:
    """The outputs of a model each of whose matrices has 8 bits and one scale, by name."""
    values = []
    for variable in model.variables:
        value = keras.ops.convert_to_numpy(variable)
        if len(value.shape) > 1 and value.size and "float" in str(variable.dtype):
            step = max(float(np.max(np.abs(value))) / 127, 1e-30)
            values.append((variable, (np.rint(value / step) * step).astype(value.dtype)))
    found: dict[str, list[np.ndarray]] = {}
    with standing_in(values):
        for arrays in examples:
            for name, value in zip(output_names(model), outputs_of(model, arrays), strict=True):
                found.setdefault(name, []).append(value)
    return found


def _rows(values):
    """All batches in one array; a number for a whole batch is an example with one element."""
    return np.concatenate([np.atleast_1d(value) for value in values])


def outputs_of(model: keras.Model, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What a Functional model computes, as a flat list."""
    outputs = model(tree.pack_sequence_as(inputs_struct(model), arrays), training=False)
    return [keras.ops.convert_to_numpy(t) for t in tree.flatten(outputs)]


def accepted_inputs(model: keras.Model, count: int = _EXAMPLES) -> list[list[np.ndarray]]:
    """Different inputs that a model accepts, for which its outputs are finite where possible.

    Integers are drawn from the widest range that the model takes: identifiers of tokens from the
    whole vocabulary, those of segments from the few there are. Every second input has one of them
    throughout: means over many tokens are much alike. Other inputs are noise, of positive numbers
    where others give no finite outputs.

    Args:
        model: A Functional model.
        count: How many batches are made.

    Returns:
        Batches of the smallest size, flat lists in the order of the model's inputs.
    """
    length = _length(model)
    draw = np.random.default_rng(0)
    arrays = example_inputs(model, length=length)
    makers: list[Callable[[tuple[int, ...]], Any]]
    makers = [lambda shape: draw.normal(size=shape)] * len(arrays)
    positive = [a if a.dtype == object else np.abs(a) for a in arrays]
    if not _is_finite(outputs_of(model, arrays)) and _is_finite(outputs_of(model, positive)):
        arrays, makers = positive, [lambda shape: np.abs(draw.normal(size=shape))] * len(arrays)
    # Embeddings say how many rows they have.
    sizes = {getattr(layer, "input_dim", None) for layer in layer_and_inner_layers(model)}
    ranges = sorted({2, *(size for size in sizes if isinstance(size, int))}, reverse=True)
    tokens = set()
    for index, spec in enumerate(model.inputs):
        if spec.dtype == "string":
            makers[index] = lambda shape: np.full(shape, "text", object)
        if not is_integer(spec):
            continue
        makers[index] = lambda shape: np.ones(shape)
        for above in ranges:
            drawn = draw.integers(0, above, arrays[index].shape).astype(spec.dtype)
            changed = [*arrays[:index], drawn, *arrays[index + 1 :]]
            if _accepts(model, changed):
                arrays = changed
                makers[index] = partial(draw.integers, 0, above)
                tokens |= {index} if above > 2 else set()  # Others are masks and segments.
                break
    found = [arrays]
    for number in range(1, count):
        more = [make(a.shape).astype(a.dtype) for make, a in zip(makers, arrays, strict=True)]
        if number % 2:
            more = [_of_one(array) if i in tokens else array for i, array in enumerate(more)]
        if _accepts(model, more):
            found.append(more)
    return found


def _of_one(array):
    """An array of the first number of each example throughout."""
    first = array.reshape(len(array), -1)[:, :1]
    return np.broadcast_to(first.reshape(-1, *[1] * (array.ndim - 1)), array.shape).copy()


def _length(model) -> int:
    """A size that the axes of the inputs may have that are left open."""
    for length in _LENGTHS:
        try:
            outputs_of(model, example_inputs(model, length=length))
            return length
        except Exception:  # Whatever the layers raise that cannot read it.
            if length == _LENGTHS[-1]:
                raise
    raise AssertionError


def _accepts(model, arrays) -> bool:
    try:
        return _is_finite(outputs_of(model, arrays))
    except Exception:  # Out of the range of an input.
        return False


def _is_finite(values) -> bool:
    return all(np.all(np.isfinite(value)) for value in values)
