"""Runs LiteRT files. Neither Keras nor TensorFlow is imported for it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np

from tfprune import native_messages
from tfprune.arguments import path_given
from tfprune.extras import require


class Runner:
    """Runs one LiteRT file.

    Args:
        path: A `.tflite` file.
        names: Input names in the order in which arrays are given; by default that of the file.
        threads: Threads of the interpreter.
        signature: Name of a signature of the file; by default the first.

    Attributes:
        details: Input name to what LiteRT says of it: shape, data type.
        output_shapes: Output name to shape, -1 where it is not known.
        names: Input names in the order in which `run` takes arrays.

    Raises:
        ValueError: If there is no LiteRT file at `path`, or it has no such signature.
        ImportError: If LiteRT is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        names: Sequence[str] | None = None,
        threads: int = 1,
        signature: str | None = None,
    ):
        path_given("path", path)
        if not os.path.isfile(path):
            raise ValueError(f"`path` must be a LiteRT file. There is none: path={str(path)!r}")
        interpreter = require("ai_edge_litert.interpreter", extra="export")
        damaged = f"Received: path={str(path)!r}, which is none or damaged"
        try:
            self._interpreter = interpreter.Interpreter(model_path=str(path), num_threads=threads)
            signatures = self._interpreter.get_signature_list()
        except Exception as error:  # Damaged files raise TypeError, UnicodeDecodeError, …
            raise ValueError(f"`path` must be a LiteRT file. {damaged}: {error}") from error
        key = signature or next(iter(signatures), None)
        if key not in signatures:
            raise ValueError(
                f"`path` must be a LiteRT file with the signature {signature or 'of a model'!r}. "
                f"Received: path={str(path)!r}, which has {', '.join(signatures) or 'none'}"
            )
        try:
            self._signature = self._interpreter.get_signature_runner(key)
            self.details = self._signature.get_input_details()
            self._outputs = self._signature.get_output_details()
            self.output_shapes = {
                name: tuple(int(n) for n in detail.get("shape_signature", detail["shape"]))
                for name, detail in self._outputs.items()
            }
        except Exception as error:
            raise ValueError(f"`path` must be a LiteRT file. {damaged}: {error}") from error
        inputs = list(self.details)
        self.names = inputs if names is None or set(names) != set(inputs) else list(names)
        self._has_run = False

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Computes the outputs.

        Args:
            arrays: One for each input, in the order of `names`. For inputs that are integers with
                a scale, as those of a file with integers throughout, numbers as the model took
                them.

        Returns:
            The outputs, in the order of their numbers or, where they have names, of the file;
            those with a scale as numbers.

        Raises:
            ValueError: If the model cannot read inputs of these shapes.
        """
        return list(self.run_by_name(arrays).values())

    def run_by_name(self, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Computes the outputs, by name; arguments and errors as those of `run`."""
        given = {
            name: _quantized(np.asarray(a), self.details[name])
            for name, a in zip(self.names, arrays, strict=True)
        }
        # LiteRT announces its delegate when it first computes something.
        context = nullcontext() if self._has_run else native_messages.filtered()
        self._has_run = True
        try:
            with context:
                outputs = self._signature(**given)
        except RuntimeError as error:
            if "failed to create XNNPACK" in str(error):
                raise ValueError(
                    "LiteRT's XNNPACK kernels do not take the file. Where it is int8, most often "
                    "some layer makes next to nothing of all `representative_data`, such as "
                    "channels that are always zero: give other examples, or "
                    "quantize='dynamic_int8'. "
                    f"LiteRT says: {error}"
                ) from error
            shapes = ", ".join(f"{name} {array.shape}" for name, array in given.items())
            raise ValueError(
                "`sequence_length`, or the shapes of `inputs`, must be such that the model can "
                "read them; one that has positions for 64 tokens reads no more. "
                f"Received: {shapes}. LiteRT says: {error}"
            ) from error
        # The file has them in the order of the alphabet: `output_10` before `output_2`.
        return {
            name: _dequantized(outputs[name], self._outputs[name])
            for name in sorted(outputs, key=_number)
        }

    def inputs(self, batch_size: int, length: int) -> list[np.ndarray]:
        """Makes inputs that the file accepts: ones for integers, random numbers for others.

        Args:
            batch_size: Size of the first axis, where the file leaves it open.
            length: Size of other axes that the file leaves open.
        """
        draw = np.random.default_rng(0)
        arrays = []
        for name in self.names:
            detail = self.details[name]
            shape = [
                (batch_size if axis == 0 else length) if n == -1 else int(n)
                for axis, n in enumerate(detail.get("shape_signature", detail["shape"]))
            ]
            integer = np.issubdtype(detail["dtype"], np.integer)
            arrays.append(np.ones(shape) if integer else draw.normal(size=shape))
        return arrays


class Operation(NamedTuple):
    """An operation of a LiteRT file.

    Attributes:
        name: What it does, in capitals, such as `"FULLY_CONNECTED"`.
        types: The types of what it reads and makes.
        makes: The name of what it makes, `""` if that is nothing. The converter takes it from
            TensorFlow's graph; that of several operations made one has `;` in between.
    """

    name: str
    types: list[type]
    makes: str


def operations(path: str | os.PathLike) -> list[Operation]:
    """The operations of a LiteRT file.

    Args:
        path: The file.
    """
    litert = require("ai_edge_litert.interpreter", extra="export")
    interpreter = litert.Interpreter(model_path=str(path))
    tensors = {d["index"]: d for d in interpreter.get_tensor_details()}
    # Private, and the only way to them without a parser of the format.
    return [
        Operation(
            op["op_name"],
            [tensors[i]["dtype"] for i in (*op["inputs"], *op["outputs"]) if i in tensors],
            next((tensors[i]["name"] for i in op["outputs"] if i in tensors), ""),
        )
        for op in interpreter._get_ops_details()
        if op["op_name"] != "DELEGATE"
    ]


def _quantized(array, detail):
    """Numbers as the input of a file takes them: integers of its scale, if it has one."""
    scale, zero = detail["quantization"]
    wanted = detail["dtype"]
    if not scale or not np.issubdtype(wanted, np.integer) or array.dtype.kind in "biu":
        return np.asarray(array, wanted)
    limits = np.iinfo(wanted)
    return np.clip(np.round(array / scale) + zero, limits.min, limits.max).astype(wanted)


def _dequantized(array, detail):
    scale, zero = detail["quantization"]
    if not scale or not np.issubdtype(array.dtype, np.integer):
        return array
    return ((array.astype("float32") - zero) * scale).astype("float32")


def _number(name: str) -> int:
    """The number of an output that Keras has numbered; others stay in their order."""
    numbered = re.fullmatch(r"output_(\d+)", name)
    return int(numbered[1]) if numbered else -1
