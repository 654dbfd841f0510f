"""`tfprune.export`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import keras

from tfprune import native_messages
from tfprune.arguments import built_model, finite_weights, integer, one_of, path_given
from tfprune.errors import in_one_line
from tfprune.export.checking import check_file
from tfprune.export.comparing import FLOAT, HALF, QUANTIZED
from tfprune.export.float_operations import float_operations, has_int8, with_layers
from tfprune.export.full_precision import computes_in_half, in_full_precision
from tfprune.export.inputs import at_inference, open_axes, output_names, refuse_state, with_inputs
from tfprune.export.litert_conversion import check_inputs, convert, run_by_name
from tfprune.export.masked_scores import masked_scores_in_range
from tfprune.export.quantizing import examples_of
from tfprune.export.saved_model import is_saved_model, save, serve_by_name
from tfprune.extras import require_all
from tfprune.files import atomic_write
from tfprune.user_warnings import warn

_FOR_INT8 = (
    ". Where LiteRT's operations are too coarse in int8, quantize='dynamic_int8' computes in float "
    "with int8 weights"
)


class NeedsFixedSizes(ValueError):
    """A model that can be converted with fixed sizes alone."""


@native_messages.filtered()
def export(
    model: keras.Model,
    path: str | os.PathLike,
    quantize: str | None = None,
    representative_data: Iterable | Callable | None = None,
    batch_size: int | None = None,
    sequence_length: int | None = None,
    integer_io: bool = False,
    strict: bool = False,
) -> Path:
    """Writes a model for deployment.

    What is written computes what the model does with `training=False`; in a LiteRT file a model of
    mixed precision computes in float32. It is loaded and run on some inputs before it takes its
    name: each of its outputs must be finite and close to Keras's output of that name; a quantized
    one must follow it from input to input.

    Args:
        model: A built Keras model, on the TensorFlow backend.
        path: A name ending in `.tflite` gives a LiteRT file, any other a SavedModel folder. A
            folder that exists is replaced if it is empty or holds a SavedModel and nothing else.
        quantize: `None` (float). `"float16"`: weights of half the size, float32 in between.
            `"dynamic_int8"`: int8 weights, float in between, a quarter of the size. `"int8"`: int8
            weights and activations, as far as LiteRT has such operations; others, such as a
            negation in layer normalization, stay float. On many CPUs `"int8"` is slower than float
            for transformers.
        representative_data: Arrays with examples along the first axis, of the structure of the
            model's inputs or by their names; an iterable of such batches, such as a generator; or
            a function that returns one of these. `"int8"` needs it to measure the ranges of values.
            Whatever is written is compared with the model on it; by default inputs are made up,
            of which a classifier may think nothing. Arrays also tell which inputs of a subclassed
            model with embeddings are integers; without them they are float, as Keras writes them.
        batch_size: The size of the first axis of the inputs, where the model leaves it open. By
            default it stays open. Sizes that the model has fixed itself stay.
        sequence_length: The size of the other axes that the model leaves open, likewise. With all
            sizes fixed files need fewer operations, and some models convert only then.
        integer_io: For `"int8"`: inputs and outputs are int8 too, with the scales that the file
            names; by default they are float.
        strict: For `"int8"`: whether operations that would stay float are an error.

    Returns:
        The path.

    Raises:
        ValueError: If an argument is out of place, the model cannot be converted, or the file fails
            its check. Nothing is written then, and a file that was there stays.
        ImportError: If TensorFlow or LiteRT is not installed: `pip install "tfprune[export]"`.

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
    path = checked_target(path)
    _check_model(model, path)
    one_of("quantize", quantize, (None, *QUANTIZED))
    if path.suffix != ".tflite" and quantize is not None:
        raise ValueError(
            "`quantize` applies to LiteRT files; end `path` in '.tflite'. "
            f"Received: path={str(path)!r}, quantize={quantize!r}"
        )
    for name, value in (("integer_io", integer_io), ("strict", strict)):
        one_of(name, value, (False, True))
        if value and quantize != "int8":
            raise ValueError(f"`{name}` is for quantize='int8'. Received: quantize={quantize!r}")
    batch_size = integer("batch_size", batch_size, optional=True)
    sequence_length = integer("sequence_length", sequence_length, optional=True)
    if path.suffix != ".tflite":
        return _saved_model(
            _functional(model, batch_size, sequence_length, representative_data),
            path,
            representative_data,
        )
    with in_full_precision(model):
        model = _functional(model, batch_size, sequence_length, representative_data)
        return _litert_file(model, path, quantize, representative_data, integer_io, strict)


def _check_model(model, path):
    """Refuses what cannot be written to a path."""
    if path.suffix == ".tflite":
        require_all({"tensorflow": "export", "ai_edge_litert": "export"})
    require_tensorflow()
    built_model("model", model)
    finite_weights("model", model)
    refuse_state(model)


def _functional(model, batch_size, sequence_length, like) -> keras.Model:
    """What is written, as a Functional model with the sizes that were asked for."""
    model = at_inference(with_inputs(model, like), batch_size, sequence_length)
    output_names(model)
    return model


def _saved_model(model, path, representative_data) -> Path:
    compared = None
    if representative_data is not None:
        compared = _some(examples_of(model, representative_data))
    tolerance = HALF if computes_in_half(model) else FLOAT
    with atomic_write(path, folder=True, may_replace=is_saved_model) as temporary:
        save(model, temporary)
        check_file(model, serve_by_name(model, temporary), tolerance, compared)
    return path


def file_for_timing(
    model: keras.Model,
    path: Path,
    quantize: str | None,
    examples: Any,
    batch_size: int | None = None,
    sequence_length: int | None = None,
) -> Path:
    """The LiteRT file that `export` writes, not compared with the model.

    What is timed may be cut in ways in which nobody would use it, and give what int8 cannot follow.

    Args:
        model: As in `export`.
        path: The file.
        quantize: As in `export`.
        examples: `representative_data` of `export`; of no use but for `"int8"`.
        batch_size: As in `export`.
        sequence_length: As in `export`.

    Raises:
        ValueError: As `export`, but for the comparison.
        ImportError: As `export`.
    """
    _check_model(model, path)
    with in_full_precision(model):
        model = _functional(model, batch_size, sequence_length, None)
        return _litert_file(model, path, quantize, examples, False, False, compare=False)


def _litert_file(
    model, path, quantize, representative_data, integer_io, strict, compare=True
) -> Path:
    examples = compared = None
    if quantize == "int8" or representative_data is not None:
        examples = examples_of(model, representative_data)
        compared = _some(examples)
    check_inputs(model)
    in_range: AbstractContextManager[None] = nullcontext()
    if quantize == "int8":
        assert examples is not None
        in_range = masked_scores_in_range(model, examples)
    with atomic_write(path) as temporary:
        with in_range:
            try:
                convert(model, temporary, quantize, examples, integer_io)
            except ValueError as error:
                raise _with_advice(error, model) from error
        if strict and (left := float_operations(temporary)):
            raise ValueError(
                "`strict` asks for integers throughout, and these operations of the model would "
                f"stay float: {with_layers(left, model)}. It was not written. Where the hardware "
                "has float, leave `strict` out, or pass quantize='dynamic_int8'; where it has "
                "none, replace these layers: of those that normalize, BatchNormalization can be "
                "integers throughout."
            )
        tolerance = HALF if computes_in_half(model) else FLOAT
        if quantize:
            tolerance = QUANTIZED[quantize]
        if compare:
            advice = _FOR_INT8 if quantize == "int8" and not (strict or integer_io) else ""
            check_file(model, run_by_name(model, temporary), tolerance, compared, advice)
        if quantize == "dynamic_int8" and not has_int8(temporary):
            warn(
                "quantize='dynamic_int8' has changed nothing: the converter leaves kernels of "
                "fewer than 1,024 numbers float, and those of some layers, such as Conv3D."
            )
    return path


def _with_advice(error: ValueError, model: keras.Model) -> ValueError:
    """The error of a conversion, and which sizes would help, if some do."""
    for_batch, for_others = open_axes(model)
    if not (for_batch or for_others):
        return error
    sizes = {"batch_size": 1} if for_batch else {}
    if for_others:
        sizes["sequence_length"] = 16
    with tempfile.TemporaryDirectory() as folder:
        try:
            convert(at_inference(model, **sizes), Path(folder) / "tried.tflite", None, None)
        except Exception:
            return error
    given = ", ".join(f"{name}={size}" for name, size in sizes.items())
    return NeedsFixedSizes(
        f"With fixed sizes the model can be converted: pass {given}, or others. With open ones: "
        f"{in_one_line(error, 300)}"
    )


def _some(examples):
    """Examples from all places, enough to see how the outputs vary."""
    return examples[:: -(-len(examples) // 16)]


def checked_target(path: str | os.PathLike) -> Path:
    """A path to which models are exported.

    Raises:
        ValueError: If it is none, or its ending is that of a file, but not `.tflite`.
    """
    path = Path(path_given("path", path))
    others = (".keras", ".h5", ".hdf5", ".pb", ".onnx", ".zip", ".lite")
    suffix = path.suffix.lower()
    if suffix in others or (suffix == ".tflite" and path.suffix != suffix):
        raise ValueError(
            "`path` must end in '.tflite' for a LiteRT file, or be a folder for a SavedModel; "
            f"`model.save` writes Keras files. Received: path={str(path)!r}"
        )
    return path


def require_tensorflow() -> None:
    """Says what to do when TensorFlow is not installed, or Keras runs on another backend."""
    require_all({"tensorflow": "export"})
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Export needs the TensorFlow backend. Received: Keras on "
            f"{keras.backend.backend()!r}. Save the model with `model.save`, start Python again "
            "with KERAS_BACKEND=tensorflow, load it and export."
        )
