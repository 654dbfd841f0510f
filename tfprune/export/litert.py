"""LiteRT files, as TensorFlow's converter makes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def convert(model, path, quantize, examples):
    """Writes the LiteRT file of a model, unchecked.

    `examples` are for `"int8"`: inputs of one example each, flat lists of arrays.
    """
    import tensorflow as tf

    def calibrate():
        names = [t.name for t in model.inputs]
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
        raise ValueError(
            "The model has operations that LiteRT cannot run without TensorFlow's (Flex): "
            f"{str(error).strip().splitlines()[0]}"
        ) from error
