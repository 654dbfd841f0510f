"""LiteRT files, as TensorFlow's converter makes them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras


def convert(model, path, quantize, examples):
    """Writes the LiteRT file of a model, unchecked.

    `examples` are for `"int8"`: inputs of one example each, flat lists of arrays.
    """
    import tensorflow as tf

    def calibrate():
        names = [t.name for t in model.inputs]  # Those of the signature.
        for example in examples:
            yield "serving_default", dict(zip(names, example, strict=True))

    # Keras by itself would let TensorFlow's operations (Flex) in, which few interpreters have.
    settings: dict[str, Any] = {"target_spec": {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}}
    if quantize:
        settings["optimizations"] = [tf.lite.Optimize.DEFAULT]
    if quantize == "int8":
        settings["representative_dataset"] = calibrate
    with _conversion_errors():
        model.export(str(path), format="litert", verbose=False, **settings)


def convert_saved_model(folder: str, signature: str, quantize: str | None = None) -> bytes:
    """The LiteRT file of a function that is no Keras model, for which Keras has no export.

    Args:
        folder: A SavedModel.
        signature: The function's signature in it, which is the file's signature too.
        quantize: `None` or `"dynamic_int8"`.
    """
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=[signature])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    with _conversion_errors():
        return converter.convert()


@contextmanager
def _conversion_errors() -> Iterator[None]:
    """Turns whatever the converter raises into a `ValueError`."""
    try:
        yield
    except Exception as error:  # The converter raises its own classes of its own modules.
        text = str(error).strip()
        # Where it names the operation, it does so in the middle of a long line.
        needed = sorted(
            set(re.findall(r"'tf\.(\w+)' op is neither a custom op nor a flex op", text))
        )
        if needed or "flex" in text.lower():
            raise ValueError(
                "The model has operations that LiteRT cannot run without TensorFlow's (Flex): "
                f"{', '.join(needed) or text}. Replace them, or export a SavedModel."
            ) from error
        raise ValueError(
            f"The converter of TensorFlow cannot make a LiteRT file of the model: {text}"
        ) from error


def check_inputs(model: keras.Model) -> None:
    """Says which inputs of a Functional model a LiteRT file cannot have.

    Raises:
        ValueError: If an input is text.
    """
    for spec in model.inputs:
        if spec.dtype == "string":
            raise ValueError(
                "`model` must take numbers to become a LiteRT file. Received: the input "
                f"{spec.name!r} of strings. Export the part behind the layer that turns text into "
                "numbers, and run that layer in front of the file; or export a SavedModel."
            )


def run_by_name(model: keras.Model, path: str | os.PathLike):
    """A function from inputs in the order of a Functional model to the outputs of its file."""
    from tfprune.litert import Runner

    runner = Runner(path, [t.name for t in model.inputs])
    return runner.run_by_name
