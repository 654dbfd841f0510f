"""Shows on numbers that a decoder computes the same word by word as on whole sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfprune.translation.student_layers import SSRU

# Sizes that axes of layers rarely have, so that the axis of positions is known by its size.
_SOURCE, _TARGET = 7, 61
# What keeps a state is run from the first position on, for so many.
_STEPS = 13


def prove(decoder: Any) -> None:
    """Compares each operation of a decoder, position by position, with itself on all at once.

    Two sentences of random words are decoded, one with a padded source, with random weights: those
    of a model may be zero today and trained tomorrow. Each operation is given what the whole
    sentence makes of the operations before it, so that the first wrong one is found by name.

    Args:
        decoder: The `StepDecoder`.

    Raises:
        ValueError: If an operation computes something else.
    """
    encoder_nodes, decoder_nodes = decoder.nodes
    layers = [n.operation for n in (*encoder_nodes, *decoder_nodes)]
    layers = [layer for layer in layers if isinstance(layer, keras.Layer)]
    # SSRU looks no farther back than its `max_length`.
    longest = [layer.max_length for layer in layers if isinstance(layer, SSRU)]
    length = decoder.target.shape[1] or min([_TARGET, decoder.max_length, *longest])
    rows = [getattr(layer, "input_dim", None) for layer in layers]
    words = min([n for n in rows if isinstance(n, int)], default=2)
    draw = np.random.default_rng(0)
    with keras.StatelessScope(_random_weights(layers, draw)):
        source = draw.integers(1, max(2, words), (2, _SOURCE)).astype("int32")
        source[1, 4:] = 0
        target = draw.integers(1, max(2, words), (2, length)).astype("int32")
        values = {
            id(decoder.source): ops.convert_to_tensor(source),
            id(decoder.target): ops.convert_to_tensor(target),
        }
        for node in encoder_nodes:
            decoder.run(node, values)
        for node in decoder_nodes:
            try:
                decoder.run(node, values)
                wrong = _wrong(decoder, node, values, length)
            except Exception as error:  # Whatever a layer raises that needs more positions.
                wrong = f"it cannot be called on one position: {error}"
            if wrong:
                operation = node.operation
                raise ValueError(
                    "`model` must compute each position of the target alone, but for causal "
                    "attention, SSRU and SinusoidalPositions, to be decoded word by word. "
                    f"Received: {type(operation).__name__} {operation.name!r}; {wrong}"
                )


def _random_weights(layers, draw):
    """Pairs of variables and values with which no unit is dead and nothing overflows."""
    found = {id(v): v for layer in layers for v in layer.variables}
    pairs = []
    for variable in found.values():
        if "float" not in keras.backend.standardize_dtype(variable.dtype):
            continue  # Seeds, counters, quantized kernels.
        shape = tuple(variable.shape)
        if len(shape) > 1:
            value = draw.normal(size=shape) / math.sqrt(max(1, math.prod(shape[:-1])))
        else:  # Scales and variances are positive.
            value = draw.uniform(0.5, 1.5, shape)
        pairs.append((variable, ops.convert_to_tensor(value, variable.dtype)))
    return pairs


def _wrong(decoder: Any, node: Any, values: dict[int, Any], length: int) -> str | None:
    """What one operation does wrong, when the values of all its inputs and outputs are known."""
    for tensor in node.outputs:
        shape = tuple(values[id(tensor)].shape)
        if len(shape) < 2 or shape[1] != length:
            return "its output has no axis of positions behind that of the batch"
    states = decoder.states_of(node, 2)
    kept = decoder.keys_and_values(node, values)
    places: Iterable[int]
    if states:
        places = range(min(length, _STEPS))
    else:
        places = sorted({0, 1, length // 2, length - 1} & set(range(length)))
    # Cut by NumPy: other libraries compile each cut anew.
    inputs = {id(t): values[id(t)] for t in node.input_tensors if decoder.changes(t)}
    inputs = {key: ops.convert_to_numpy(value) for key, value in inputs.items()}
    whole = [_numbers(values[id(tensor)]) for tensor in node.outputs]
    for place in places:
        here = dict(values)
        for key, value in inputs.items():
            here[key] = ops.convert_to_tensor(value[:, place : place + 1])
        new: list[Any] = []
        decoder.step_of(node, here, place, iter(states or []), new, iter(kept))
        states = new
        for tensor, all_places in zip(node.outputs, whole, strict=True):
            want = all_places[:, place : place + 1]
            got = _numbers(here[id(tensor)])
            half = "16" in keras.backend.standardize_dtype(values[id(tensor)].dtype)
            allowed = (5e-2 if half else 1e-3) * max(1.0, float(np.max(np.abs(want), initial=0.0)))
            if got.shape != want.shape or not np.all(np.abs(got - want) <= allowed):
                return "it computes something else on one position than on all of them"
    return None


def _numbers(value):
    return np.asarray(ops.convert_to_numpy(value), "float32")
