"""How large and how fast a model really is."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np


@dataclass(frozen=True)
class Timing:
    """Time for one call.

    Args:
        median: Milliseconds.
        fastest: Milliseconds.
        percentile_90: Milliseconds.
        runs: Calls that were counted.
        threads: Threads of the interpreter.
        shapes: Input name to shape.
    """

    median: float
    fastest: float
    percentile_90: float
    runs: int
    threads: int
    shapes: dict[str, tuple[int, ...]]

    def __str__(self) -> str:
        return (
            f"{self.median:.3f} ms (median of {self.runs}, fastest {self.fastest:.3f}, "
            f"90th percentile {self.percentile_90:.3f}; {self.threads} thread"
            f"{'s' * (self.threads > 1)})"
        )

    def to_dict(self) -> dict[str, Any]:
        """All numbers, JSON-able."""
        return {**asdict(self), "shapes": {k: list(v) for k, v in self.shapes.items()}}


class Runner:
    """Runs one LiteRT file.

    Args:
        path: A `.tflite` file.
        names: Input names in the order in which arrays are given; by default the file's order.
        threads: Threads of the interpreter.
        signature: Which of the file's signatures; by default its first.
    """

    def __init__(self, path, names: Sequence[str] | None = None, threads: int = 1, signature=None):
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
        signatures = self._interpreter.get_signature_list()
        key = signature or next(iter(signatures))
        self._signature = self._interpreter.get_signature_runner(key)
        self.details = self._signature.get_input_details()
        inputs = list(self.details)
        self.names = list(names) if set(names or ()) == set(inputs) else inputs

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs for a list of input arrays; a `ValueError` where the file cannot read them."""
        given = {
            name: np.asarray(a, self.details[name]["dtype"])
            for name, a in zip(self.names, arrays, strict=True)
        }
        try:
            return list(self._signature(**given).values())
        except RuntimeError as error:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in given.items())
            raise ValueError(
                "`sequence_length`, or the shapes of `inputs`, must be such that the model can "
                "read them; one that has positions for 64 tokens reads no more. "
                f"Received: {shapes}. LiteRT says: {error}"
            ) from error

    def inputs(self, batch_size: int, length: int) -> list[np.ndarray]:
        """Inputs that the file accepts: ones for integers, noise for the rest."""
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


def measure_latency(
    model: keras.Model | str | os.PathLike,
    inputs: Sequence[np.ndarray] | None = None,
    batch_size: int = 1,
    sequence_length: int = 128,
    threads: int = 1,
    warmup: int = 5,
    runs: int = 30,
) -> Timing:
    """Times a model in LiteRT.

    Args:
        model: A Keras model or a `.tflite` file.
        inputs: Arrays in the order of the inputs; made up by default.
        batch_size: Batch size of made-up inputs.
        sequence_length: Size of their open axes.
        threads: Threads of the interpreter.
        warmup: Calls that are not counted.
        runs: Calls that are.

    Returns:
        `Timing`, in milliseconds.

    Raises:
        ValueError: If there is no such file, a number is not positive, or the model cannot read
            inputs of such shapes.

    Example:

    >>> import keras, tfprune
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> tfprune.measure_latency(model, runs=3).median > 0
    True
    """
    return compare_latency(
        [model], inputs, batch_size, sequence_length, threads, warmup, runs
    ).latencies[0]


@dataclass(frozen=True)
class LatencyComparison:
    """Several models timed in turn.

    Args:
        latencies: One for each model.
        ratios: Median over rounds of a model's time by the first model's.
    """

    latencies: list[Timing]
    ratios: list[float]


def compare_latency(
    models: Sequence[keras.Model | str | os.PathLike],
    inputs: Sequence[np.ndarray] | None = None,
    batch_size: int = 1,
    sequence_length: int = 128,
    threads: int = 1,
    warmup: int = 5,
    runs: int = 30,
) -> LatencyComparison:
    """Times several models in turn, A B A B, so that a busy machine disturbs them alike.

    Args:
        models: Keras models or `.tflite` files; the first is what the others are compared with.
        inputs: As in `measure_latency`, like the arguments that follow.
        batch_size: Batch size of made-up inputs.
        sequence_length: Size of their open axes.
        threads: Threads of the interpreter.
        warmup: Rounds that are not counted.
        runs: Rounds that are.

    Returns:
        `LatencyComparison`.
    """
    for name, value in (("threads", threads), ("runs", runs), ("batch_size", batch_size)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}")
    from tfprune.export import export, with_inputs

    with tempfile.TemporaryDirectory() as folder:
        runners = []
        for i, model in enumerate(models):
            if isinstance(model, keras.Model):
                model = with_inputs(model)
                path = export(model, Path(folder) / f"{i}.tflite")
                runners.append(Runner(path, [t.name for t in model.inputs], threads))
            else:
                if not Path(model).is_file():
                    raise ValueError(
                        f"`model` must be a Keras model or a .tflite file. Received: {model!r}"
                    )
                runners.append(Runner(model, None, threads))
        given = [inputs or runner.inputs(batch_size, sequence_length) for runner in runners]
        times = np.empty((runs, len(runners)))
        for turn in range(-warmup, runs):
            for i, (runner, arrays) in enumerate(zip(runners, given, strict=True)):
                start = time.perf_counter()
                runner.run(arrays)
                if turn >= 0:
                    times[turn, i] = 1000 * (time.perf_counter() - start)
    latencies = [
        Timing(
            float(np.median(column)),
            float(np.min(column)),
            float(np.percentile(column, 90)),
            runs,
            threads,
            {n: tuple(np.shape(a)) for n, a in zip(runner.names, arrays, strict=True)},
        )
        for column, runner, arrays in zip(times.T, runners, given, strict=True)
    ]
    return LatencyComparison(latencies, [float(np.median(c / times[:, 0])) for c in times.T])


def count_parameters(model: keras.Model) -> int:
    """Number of weights, trainable or not; random-number states do not count."""
    return sum(int(np.prod(w.shape)) for w in model.weights if "seed_generator" not in w.path)


def count_flops(model: keras.Model, batch_size: int = 1, sequence_length: int = 128) -> int:
    """Floating-point operations of the matrix products and convolutions of one call.

    A multiply-add counts as two. They are read off the traced computation, so nothing is forgotten
    or counted twice.

    Args:
        model: A built Keras model.
        batch_size: Examples in the call.
        sequence_length: Size of open axes.

    Returns:
        Operations.
    """
    from tfprune.export import example_inputs, with_inputs

    model = with_inputs(model)
    arrays = example_inputs(model, batch_size, sequence_length)
    given = keras.tree.pack_sequence_as(model._inputs_struct, arrays)
    if keras.backend.backend() == "tensorflow":
        return _flops_of_graph(model, given)
    if keras.backend.backend() == "jax":
        import jax

        return _flops_of_jaxpr(jax.make_jaxpr(lambda x: model(x, training=False))(given).jaxpr)
    raise ValueError("`count_flops` needs the TensorFlow or the JAX backend.")


def _flops_of_graph(model, given):
    import tensorflow as tf

    specs = keras.tree.map_structure(lambda a: tf.TensorSpec(a.shape, a.dtype), given)
    function = tf.function(lambda x: model(x, training=False)).get_concrete_function(specs)
    graphs = [
        function.graph,
        *(f.graph for f in function.graph._functions.values() if hasattr(f, "graph")),
    ]
    return sum(_operation_flops(op) for graph in graphs for op in graph.get_operations())


def _operation_flops(op) -> int:
    if op.type in ("MatMul", "BatchMatMulV2", "BatchMatMul", "BatchMatMulV3"):
        left = op.inputs[0].shape
        transposed = op.get_attr("transpose_a") if op.type == "MatMul" else op.get_attr("adj_x")
        inner = left[-2] if transposed else left[-1]
        return 2 * int(np.prod(op.outputs[0].shape)) * inner
    if op.type == "Einsum":
        equation = op.get_attr("equation").decode()
        sizes: dict[str, int] = {}
        for term, tensor in zip(equation.split("->")[0].split(","), op.inputs, strict=True):
            shape = list(tensor.shape)
            letters = term.replace("...", "")
            head = len(shape) - len(letters)
            dots = term.find("...")
            for i in range(head):
                sizes[f".{i}"] = shape[dots + i]
            plain = shape if dots < 0 else shape[:dots] + shape[dots + head :]
            sizes.update(zip(letters, plain, strict=True))
        return 2 * int(np.prod(list(sizes.values()))) if len(op.inputs) > 1 else 0
    if op.type in ("Conv2D", "DepthwiseConv2dNative", "Conv3D"):
        kernel = list(op.inputs[1].shape)
        window = kernel[:-1] if op.type != "DepthwiseConv2dNative" else kernel[:2]
        return 2 * int(np.prod(op.outputs[0].shape)) * int(np.prod(window))
    return 0


def _flops_of_jaxpr(jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (left, _), _ = equation.params["dimension_numbers"]
            inner = [equation.invars[0].aval.shape[axis] for axis in left]
            total += 2 * int(np.prod(equation.outvars[0].aval.shape)) * int(np.prod(inner))
        elif equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            out_axis = equation.params["dimension_numbers"].rhs_spec[0]
            window = int(np.prod(kernel)) // kernel[out_axis]
            total += 2 * int(np.prod(equation.outvars[0].aval.shape)) * window
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", None)
            if inner is not None:
                total += _flops_of_jaxpr(getattr(inner, "jaxpr", inner))
    return total
