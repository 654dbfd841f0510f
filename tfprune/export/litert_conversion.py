"""LiteRT files, as TensorFlow's converter makes them."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from tfprune import native_messages
from tfprune.export.inputs import signature


def convert(
    model: keras.Model,
    path: str | os.PathLike,
    quantize: str | None,
    examples: Sequence[Sequence[np.ndarray]] | None,
    integer_io: bool = False,
) -> None:
    """Writes the LiteRT file of a model, unchecked.

    Args:
        model: A Functional model.
        path: The file.
        quantize: As `tfprune.export` takes it.
        examples: For `"int8"`: inputs of one example each, flat lists of arrays.
        integer_io: For `"int8"`: whether inputs and outputs are integers too.

    Raises:
        ValueError: If the converter cannot make the file.
    """
    import tensorflow as tf

    def calibrate():
        assert examples is not None  # With `"int8"` they are given.
        names = [t.name for t in model.inputs]  # Those of the signature.
        for example in examples:
            yield "serving_default", dict(zip(names, example, strict=True))

    # Keras by itself would let TensorFlow's operations (Flex) in, which few interpreters have.
    target: dict[str, Any] = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
    settings: dict[str, Any] = {"target_spec": target}
    if quantize:
        settings["optimizations"] = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        target["supported_types"] = [tf.float16]
    if quantize == "int8":
        _refuse_loops(model)
        settings["representative_dataset"] = calibrate
    if integer_io:
        settings["inference_input_type"] = settings["inference_output_type"] = tf.int8
    with _conversion_errors(), _no_notes_on_the_converter():
        model.export(
            str(path),
            format="litert",
            verbose=False,
            input_signature=signature(model),
            **settings,
        )


def _refuse_loops(model):
    """The converter's calibration ends the process where a graph holds a loop."""
    import tensorflow as tf

    function = tf.function(lambda *x: model(*x, training=False))
    graph = function.get_concrete_function(*signature(model)).graph.as_graph_def()
    bodies = [graph.node, *(body.node_def for body in graph.library.function)]
    if any(node.op in ("While", "StatelessWhile") for nodes in bodies for node in nodes):
        raise ValueError(
            "`quantize` must be None, 'float16' or 'dynamic_int8' for a model with loops, such as "
            "those of LSTM and GRU: TensorFlow's converter cannot measure value ranges inside a "
            "loop. Received: quantize='int8'"
        )


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
    with native_messages.filtered(), _conversion_errors():
        return converter.convert()


@contextmanager
def _no_notes_on_the_converter() -> Iterator[None]:
    """Keeps a warning off that TensorFlow's converter uses what TensorFlow means to remove."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter is deprecated")
        yield


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
        if "f64>" in text:
            raise ValueError(
                "The model computes in float64, for which LiteRT has no operations"
                f"{': ' * bool(needed)}{', '.join(needed)}. A number of NumPy such as "
                "`np.sqrt(8)`, or an array of float64, makes Keras do so: write `8**0.5`, or cast "
                "it to float32."
            ) from error
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


def run_by_name(
    model: keras.Model, path: str | os.PathLike
) -> Callable[[Sequence[np.ndarray]], Mapping[str, np.ndarray]]:
    """A function from inputs in the order of a Functional model to the outputs of its file."""
    from tfprune.litert import Runner

    runner = Runner(path, [t.name for t in model.inputs])
    return runner.run_by_name
