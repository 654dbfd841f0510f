"""Shows on numbers which forms of a call compute what its layer computes on whole sentences."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from tfprune.translation.forms import Form, Step, Whole
from tfprune.translation.student_layers import SSRU
from tfprune.translation.values import Values

# Sizes that axes of layers rarely have, so that the axis of positions is known by its size.
_SOURCE, _TARGET = 7, 61
# What keeps a state is run from the first position on, for so many.
_STEPS = 13


def proven_forms(decoder: Any) -> dict[int, list[Form]]:
    """Compares the forms of each call, on numbers, with the layer on whole sentences.

    Two sentences of random words are decoded, one with a padded source, with random weights: those
    of a model may be zero today and trained tomorrow. Each call is given what the whole sentences
    make of the calls before it, so that the first wrong one is found by name.

    Args:
        decoder: The `StepDecoder`.

    Returns:
        Id of each call to its forms that compute the same, the leanest first; the last one always
        fits.

    Raises:
        ValueError: If no form of a call in the decoder does.
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
        values = Values(2, -1)
        values.set_whole(decoder.source, ops.convert_to_tensor(source))
        values.set_whole(decoder.target, ops.convert_to_tensor(target))
        forms = _forms_of_encoder(decoder, encoder_nodes, values)
        for node in decoder_nodes:
            forms[id(node)] = _forms_of_step(decoder, node, values, length)
    return forms


def _forms_of_encoder(decoder, nodes, values):
    """The forms of each call of the encoder; their values are added."""
    begin = values.copy()
    forms, own = {}, {}
    for node in nodes:
        *lean, last = decoder.forms_of(node)
        last.run(values)
        right = [form for form in lean if _difference(form, values, Values(2, -1)) is None]
        forms[id(node)], own[id(node)] = [*right, last], [last]
    for node in nodes:
        forms[id(node)][0].run(begin)
    # What travels beside a value, as a mask of Keras does, may be lost on the way.
    is_lost = any(
        not _are_close(begin.whole(tensor), values.whole(tensor)) for tensor in decoder.fixed
    )
    return own if is_lost else forms


def _forms_of_step(decoder, node, values, length):
    """The forms of one call of the decoder; its values on whole sentences are added."""
    try:
        Whole(node, decoder.call).run(values)
        wrong = _without_positions(node, values, length)
    except Exception as error:  # Whatever a layer raises.
        wrong = f"it cannot be called: {error}"
    right = []
    for form in decoder.forms_of(node) if wrong is None else ():
        wrong = _difference_of_steps(form, decoder, values, length)
        right += [form] if wrong is None else []
    if wrong is None:  # The last one, which does what the layer does.
        return right
    raise ValueError(
        "`model` must compute each position of the target alone, but for causal attention, SSRU "
        "and SinusoidalPositions, to be decoded word by word. Received: "
        f"{type(node.operation).__name__} {node.operation.name!r}; {wrong}"
    )


def _without_positions(node, values, length):
    """Says which output of a call has no axis of positions; `None` if all have."""
    for tensor in node.outputs:
        shape = tuple(values.whole(tensor).shape)
        if len(shape) < 2 or shape[1] != length:
            return "its output has no axis of positions behind that of the batch"
    return None


def _difference_of_steps(form: Form, decoder: Any, values: Values, length: int) -> str | None:
    """What a form does otherwise than the layer, step by step; `None` if nothing.

    Args:
        form: A form of a call of the decoder.
        decoder: The `StepDecoder`.
        values: The values of all inputs and outputs of the call.
        length: The number of positions.
    """
    states, kept = form.start(2), form.keep(values)
    places = sorted({0, 1, length // 2, length - 1} & set(range(length)))
    for place in range(min(length, _STEPS)) if states else places:
        step = Step(place, iter(states), [], iter(kept))
        wrong = _difference(form, values, Values(-1, 1), step, decoder.changes)
        if wrong:
            return wrong
        states = step.new
    return None


def _difference(form, values, here, step=None, changes=lambda tensor: False) -> str | None:
    """What a form does otherwise than the layer; `None` if nothing.

    Args:
        form: A form of a call.
        values: The values of all inputs and outputs of the call.
        here: Values to which inputs and outputs are added.
        step: The step; `None` for whole sentences.
        changes: Function of a symbolic tensor: whether it has one position only in a step.
    """

    def cut(tensor):
        # By NumPy: other libraries compile each cut anew.
        value = ops.convert_to_numpy(values.whole(tensor))
        return value[:, step.position : step.position + 1] if changes(tensor) else value

    for tensor in form.node.input_tensors:
        here.set_whole(tensor, ops.convert_to_tensor(cut(tensor)))
    try:
        form.run(here, step)
        outputs = [here.whole(tensor) for tensor in form.node.outputs]
    except Exception as error:  # Whatever a layer raises that needs more positions.
        return f"it cannot be called on one position: {error}"
    for tensor, got in zip(form.node.outputs, outputs, strict=True):
        scale = ops.convert_to_numpy(values.whole(tensor)).astype("float32")
        if not _are_close(got, cut(tensor), np.max(np.abs(scale), initial=0.0)):
            return "it computes something else on one position than on all of them"
    return None


def _are_close(got, want, largest=0.0):
    half = "16" in keras.backend.standardize_dtype(got.dtype)
    got, want = (ops.convert_to_numpy(x).astype("float32") for x in (got, want))
    largest = max(1.0, float(largest), float(np.max(np.abs(want), initial=0.0)))
    allowed = (5e-2 if half else 1e-3) * largest
    return got.shape == want.shape and bool(np.all(np.abs(got - want) <= allowed))


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
