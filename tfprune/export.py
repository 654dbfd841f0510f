"""SavedModel and LiteRT files, checked before they count."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.files import whole
from tfprune.keras_private.graphs import inputs_struct, is_functional
from tfprune.keras_private.layers import layer_and_inner_layers
from tfprune.structures.graph import arguments_from_build

_QUANTIZE = (None, "dynamic_int8", "int8")
_SAVED_MODEL = {"saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra"}


def export(
    model: keras.Model,
    path: str | os.PathLike,
    quantize: str | None = None,
    representative_data: Iterable | None = None,
) -> Path:
    """Writes a model for deployment.

    What is written computes what the model does with `training=False`. A `.tflite` file is run
    once with the LiteRT interpreter before it takes its name: all its outputs must be finite and,
    without quantization, close to Keras's.

    Args:
        model: A built Keras model, on the TensorFlow backend.
        path: A name ending in `.tflite` gives a LiteRT file, any other a SavedModel folder. A
            folder that exists is replaced if it is empty or holds a SavedModel and nothing else.
        quantize: `None` (float); `"dynamic_int8"`: int8 weights, float in between, a quarter of
            the size; `"int8"`: int8 throughout, for accelerators that know nothing else. On many
            CPUs `"int8"` is slower than float for transformers.
        representative_data: For `"int8"`: arrays with examples along the first axis, or an
            iterable of batches; of the structure of the model's inputs.

    Returns:
        The path.

    Raises:
        ValueError: If an argument is out of place or the file fails its check. Nothing is written
            then, and a file that was there stays.

    Example:

    >>> import keras, tempfile, tfprune
    >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64)])
    >>> folder = Path(tempfile.mkdtemp())
    >>> saved_model = tfprune.export(model, folder / "model")
    >>> plain = tfprune.export(model, folder / "model.tflite")
    >>> int8 = tfprune.export(model, folder / "int8.tflite", quantize="dynamic_int8")
    >>> int8.stat().st_size < 0.5 * plain.stat().st_size
    True
    """
    path = Path(path)
    require_tensorflow()
    if not isinstance(model, keras.Model) or not model.built:
        raise ValueError(f"`model` must be a built Keras model. Received: model={model!r}")
    if quantize not in _QUANTIZE:
        raise ValueError(
            f"`quantize` must be one of {', '.join(map(repr, _QUANTIZE))}. "
            f"Received: quantize={quantize!r}"
        )
    path = checked_target(path)
    if path.suffix != ".tflite" and quantize is not None:
        raise ValueError(
            "`quantize` applies to LiteRT files; end `path` in '.tflite'. "
            f"Received: path={str(path)!r}, quantize={quantize!r}"
        )
    model = with_inputs(model)
    tolerance = 1e-2 if "16" in model.dtype_policy.compute_dtype else 1e-3
    model = at_inference(model)
    if path.suffix != ".tflite":
        with whole(path, folder=True, may_replace=is_saved_model) as fresh:
            model.export(str(fresh), format="tf_saved_model", verbose=False)
        return path
    examples = _examples(model, representative_data) if quantize == "int8" else None
    with whole(path) as fresh:
        _convert(model, fresh, quantize, examples)
        _check(model, fresh, None if quantize else tolerance, examples and examples[0])
    return path


def checked_target(path: Path) -> Path:
    """A path to which models are exported.

    Raises:
        ValueError: If its ending is that of a file, but not `.tflite`.
    """
    others = (".keras", ".h5", ".hdf5", ".pb", ".onnx", ".zip")
    suffix = path.suffix.lower()
    if suffix in others or (suffix == ".tflite" and path.suffix != suffix):
        raise ValueError(
            "`path` must end in '.tflite' for a LiteRT file, or be a folder for a SavedModel; "
            f"`model.save` writes Keras files. Received: path={str(path)!r}"
        )
    return path


def is_saved_model(folder: Path) -> bool:
    """Whether a folder holds a SavedModel and nothing else."""
    content = {entry.name for entry in folder.iterdir()}
    return "saved_model.pb" in content and content <= _SAVED_MODEL


def _convert(model, path, quantize, examples):
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


def require_tensorflow() -> None:
    """Says what to do when Keras runs on another backend."""
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Export needs the TensorFlow backend. Received: Keras on "
            f"{keras.backend.backend()!r}. Save the model with `model.save`, start Python again "
            "with KERAS_BACKEND=tensorflow, load it and export."
        )


def with_inputs(model: keras.Model) -> keras.Model:
    """A Functional model: the model itself, or one around a Sequential or subclassed model.

    The sizes of a subclassed model are those with which it was first called, but for the batch.

    Raises:
        ValueError: If what the model takes cannot be told.
    """
    if is_functional(model):
        return model
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.outputs, name=model.name)
    try:
        (given,), _ = arguments_from_build(model)
        inputs = tree.map_structure(lambda t: keras.Input(t.shape[1:], dtype=t.dtype), given)
        return keras.Model(inputs, model(inputs), name=model.name)
    except Exception as error:
        raise ValueError(
            f"What {type(model).__name__} {model.name!r} takes cannot be told: {error}. Wrap it: "
            "inputs = keras.Input(...); model = keras.Model(inputs, your_model(inputs))."
        ) from error


def at_inference(model: keras.Model) -> keras.Model:
    """A Functional model that computes what another one does with `training=False`, always.

    Without it layers such as `RandomFlip`, which train unless they are told not to, would change
    their input in the exported file.
    """
    inputs = inputs_struct(model)
    return keras.Model(inputs, model(inputs, training=False), name=model.name)


def _examples(model, data) -> list[list[np.ndarray]]:
    """Single examples as flat lists of arrays in the order of the model's inputs."""
    if data is None:
        raise ValueError(
            "`representative_data` is needed for quantize='int8': some examples of the inputs, "
            "from which value ranges are measured."
        )
    specs = model.inputs
    is_batches = not isinstance(data, (np.ndarray, dict, tuple, list)) or (
        isinstance(data, list) and len(data) > 0 and isinstance(data[0], dict)
    )
    batches = list(data) if is_batches else [data]
    found = []
    for batch in batches:
        arrays = [np.asarray(a) for a in tree.flatten(batch)]
        if len(arrays) != len(specs):
            raise ValueError(
                f"`representative_data` must hold {len(specs)} arrays a batch, one for each input "
                f"of the model. Received: {len(arrays)}"
            )
        for array, spec in zip(arrays, specs, strict=True):
            fits = array.ndim == len(spec.shape) and all(
                want in (None, got)
                for want, got in zip(spec.shape[1:], array.shape[1:], strict=False)
            )
            if not fits or not np.issubdtype(array.dtype, np.number):
                raise ValueError(
                    f"`representative_data` must have shape {spec.shape} for input {spec.name!r}. "
                    f"Received: shape {array.shape}, dtype {array.dtype}"
                )
        arrays = [a.astype(s.dtype) for a, s in zip(arrays, specs, strict=True)]
        found += [[a[i : i + 1] for a in arrays] for i in range(len(arrays[0]))]
    if not found:
        raise ValueError("`representative_data` must hold at least one example. Received: none")
    return found


def example_inputs(model, batch_size: int = 1, length: int = 16) -> list[np.ndarray]:
    """Inputs that a model accepts: ones for integers, noise for the rest."""
    draw = np.random.default_rng(0)
    arrays = []
    for spec in model.inputs:
        shape = [batch_size, *[length if n is None else n for n in spec.shape[1:]]]
        values = np.ones(shape) if _is_integer(spec) else draw.normal(size=shape)
        arrays.append(values.astype(spec.dtype))
    return arrays


def _is_integer(spec) -> bool:
    return "int" in spec.dtype or spec.dtype == "bool"


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
        for above in sorted({2, *ranges}, reverse=True) if _is_integer(spec) else ():
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


def _check(model, path, tolerance, example=None):
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
