"""Compares files with the models that they came from."""

from __future__ import annotations

import keras
import numpy as np
from keras import tree

from tfprune.export.inputs import example_inputs, is_integer
from tfprune.keras_private.graphs import inputs_struct
from tfprune.keras_private.layers import layer_and_inner_layers


def _outputs(model, arrays) -> list[np.ndarray]:
    outputs = model(tree.pack_sequence_as(inputs_struct(model), arrays), training=False)
    return [keras.ops.convert_to_numpy(t) for t in tree.flatten(outputs)]


def _answered(model, example=None):
    """Inputs that the model accepts, and its outputs for them.

    Integers are drawn from the widest range that the model takes: identifiers of tokens from the
    whole vocabulary, those of segments from the few there are.
    """
    if example is not None:
        return example, _outputs(model, example)
    lengths = (16, 4, 1)  # A model may have positions for fewer tokens than that.
    for length in lengths:
        arrays = example_inputs(model, length=length)
        try:
            expected = _outputs(model, arrays)
            break
        except Exception:
            if length == lengths[-1]:
                raise
    draw = np.random.default_rng(0)
    # Embeddings say how many rows they have.
    sizes = {getattr(layer, "input_dim", None) for layer in layer_and_inner_layers(model)}
    ranges = {size for size in sizes if isinstance(size, int)}
    for index, spec in enumerate(model.inputs):
        for above in sorted({2, *ranges}, reverse=True) if is_integer(spec) else ():
            drawn = draw.integers(0, above, arrays[index].shape).astype(spec.dtype)
            changed = [*arrays[:index], drawn, *arrays[index + 1 :]]
            try:
                answer = _outputs(model, changed)
            except Exception:  # Out of the range of this input.
                continue
            if all(np.all(np.isfinite(value)) for value in answer):
                arrays, expected = changed, answer
                break
    return arrays, expected


def check(model, path, tolerance, example=None):
    """Runs a LiteRT file once and, unless `tolerance` is `None`, compares it with Keras."""
    from tfprune.litert import Runner

    arrays, expected = _answered(model, example)
    runner = Runner(path, [t.name for t in model.inputs])
    got = list(runner.run(arrays))
    for want in expected:
        # The file may give its outputs in another order.
        matches = [i for i, value in enumerate(got) if value.shape == want.shape]
        if not matches:
            raise ValueError(
                f"The LiteRT file has no output of shape {want.shape}; it was not written."
            )
        if not all(np.all(np.isfinite(got[i])) for i in matches):
            raise ValueError(
                "The LiteRT file gives values that are not finite; it was not written."
            )
        apart = [float(np.max(np.abs(got[i] - want), initial=0.0)) for i in matches]
        scale = max(1.0, float(np.max(np.abs(want), initial=0.0)))
        if tolerance is not None and min(apart) > tolerance * scale:
            raise ValueError(
                f"The LiteRT file differs from Keras by {min(apart):.3g}; it was not written."
            )
        del got[matches[int(np.argmin(apart))]]
