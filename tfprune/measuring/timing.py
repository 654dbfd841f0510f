"""Times models in LiteRT."""

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

from tfprune import native_messages
from tfprune.arguments import built_model, integer, one_of
from tfprune.litert import Runner
from tfprune.measuring.input_checks import check_numeric, checked_inputs
from tfprune.progress import progress
from tfprune.tables import significant, table


@dataclass(frozen=True)
class Timing:
    """The time that one call takes; prints as a line.

    Args:
        median: Milliseconds.
        fastest: Milliseconds.
        percentile_90: Milliseconds.
        runs: How many calls were timed.
        threads: Threads of the interpreter.
        shapes: Input name to shape.
        quantize: The kind of file, as in `tfprune.export`; `None` where it is float or was given.
    """

    median: float
    fastest: float
    percentile_90: float
    runs: int
    threads: int
    shapes: dict[str, tuple[int, ...]]
    quantize: str | None = None

    def __str__(self) -> str:
        return (
            f"{significant(self.median)} ms (median of {self.runs}, fastest "
            f"{significant(self.fastest)}, 90th percentile {significant(self.percentile_90)}; "
            f"{self.threads} thread"
            f"{'s' * (self.threads > 1)}{f'; {self.quantize}' if self.quantize else ''})"
        )

    def to_dict(self) -> dict[str, Any]:
        """All numbers, JSON-able."""
        return {**asdict(self), "shapes": {k: list(v) for k, v in self.shapes.items()}}


def measure_latency(
    model: keras.Model | str | os.PathLike,
    inputs: Sequence[np.ndarray] | None = None,
    batch_size: int = 1,
    sequence_length: int = 128,
    threads: int = 1,
    warmup: int = 5,
    runs: int = 30,
    verbose: int = 1,
    quantize: str | None = None,
    representative_data: Any = None,
) -> Timing:
    """Times a model in LiteRT.

    Args:
        model: A Keras model or a `.tflite` file.
        inputs: Arrays in the order of the inputs; by default ones and random numbers.
        batch_size: Batch size of default inputs.
        sequence_length: Size of their axes of unknown size.
        threads: Threads of the interpreter.
        warmup: Calls before timing begins.
        runs: Calls that are timed.
        verbose: 1 shows progress, on a terminal or in a notebook.
        quantize: What kind of file a Keras model is timed as, as in `tfprune.export`; `None` is
            float. A quantized file is not compared with the model.
        representative_data: As in `tfprune.export`, for `"int8"`; by default the inputs. Arrays
            also tell which inputs of a subclassed model are integers.

    Returns:
        `Timing`, in milliseconds.

    Raises:
        ValueError: If there is no such file or it is no LiteRT file, a model is not built or reads
            strings, a number is out of range, the model cannot read `inputs`, or inputs of such
            shapes, `quantize` is none that `tfprune.export` knows or given for a file, or
            `representative_data` does not fit the model or is given without `quantize`.
        ImportError: If LiteRT is not installed: `pip install "tfprune[export]"`.

    Example:

    >>> import keras, tfprune
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> tfprune.measure_latency(model, runs=3).median > 0
    True
    """
    return compare_latency(
        [model],
        inputs=inputs,
        batch_size=batch_size,
        sequence_length=sequence_length,
        threads=threads,
        warmup=warmup,
        runs=runs,
        verbose=verbose,
        quantize=quantize,
        representative_data=representative_data,
    ).latencies[0]


@dataclass(frozen=True)
class LatencyComparison:
    """Several models timed in turn; prints as a table.

    Args:
        latencies: The timing of each model.
        ratios: For each model, the median over rounds of its time divided by that of the first.
        names: What the models are called in the table; by default they are numbered.
    """

    latencies: list[Timing]
    ratios: list[float]
    names: list[str] | None = None

    def to_dict(self) -> dict[str, Any]:
        """All numbers, JSON-able: a list of models, each with its name, timing and ratio."""
        each = zip(self._names, self.latencies, self.ratios, strict=True)
        return {
            "models": [{"name": name, **t.to_dict(), "ratio": ratio} for name, t, ratio in each]
        }

    @property
    def _names(self) -> list[str]:
        return self.names or [str(i + 1) for i in range(len(self.latencies))]

    def __str__(self) -> str:
        rows = [
            [
                name,
                *(significant(ms) for ms in (timing.median, timing.fastest, timing.percentile_90)),
                f"{ratio:.2f}",
            ]
            for name, timing, ratio in zip(self._names, self.latencies, self.ratios, strict=True)
        ]
        one = self.latencies[0]
        columns = ["model", "median", "fastest", "90th percentile", "of the first"]
        title = f"Milliseconds of {one.runs} calls, {one.threads} thread{'s' * (one.threads > 1)}"
        kinds = {timing.quantize for timing in self.latencies} - {None}
        title += "".join(f"; models as {kind} files" for kind in kinds)
        return table(columns, rows, title, paths=True)


@native_messages.filtered()
def compare_latency(
    models: Sequence[keras.Model | str | os.PathLike],
    inputs: Sequence[np.ndarray] | None = None,
    batch_size: int = 1,
    sequence_length: int = 128,
    threads: int = 1,
    warmup: int = 5,
    runs: int = 30,
    verbose: int = 1,
    quantize: str | None = None,
    representative_data: Any = None,
) -> LatencyComparison:
    """Times several models in turn, A B A B, so that other load affects them alike.

    Each is called twice in its turn, and the second call is timed: as when one model alone is
    called again and again, its weights are in the caches then.

    Args:
        models: Keras models or `.tflite` files; the others are compared with the first.
        inputs: Arrays in the order of the inputs; by default ones and random numbers.
        batch_size: Batch size of default inputs.
        sequence_length: Size of their axes of unknown size.
        threads: Threads of the interpreter.
        warmup: Rounds before timing begins.
        runs: Rounds that are timed.
        verbose: 1 shows progress, on a terminal or in a notebook; nothing while a call is timed.
        quantize: What kind of file Keras models are timed as, as in `tfprune.export`; `None` is
            float. A quantized file is not compared with its model.
        representative_data: As in `tfprune.export`, for `"int8"`; by default the inputs. Arrays
            also tell which inputs of a subclassed model are integers.

    Returns:
        `LatencyComparison`.

    Raises:
        ValueError: As `measure_latency`, or if there are no models.
        ImportError: As `measure_latency`.

    Example:

    >>> import keras, tfprune
    >>> models = [
    ...     keras.Sequential([keras.Input((4,)), keras.layers.Dense(units)]) for units in (2, 3)]
    >>> timed = tfprune.compare_latency(models, runs=3)
    >>> len(timed.latencies), timed.ratios[0]
    (2, 1.0)
    """
    if isinstance(models, (str, bytes)) or not isinstance(models, Sequence) or not models:
        raise ValueError(
            "`models` must be a list of Keras models or .tflite files, at least one. "
            f"Received: models={models!r}"
        )
    batch_size = integer("batch_size", batch_size)
    sequence_length = integer("sequence_length", sequence_length)
    threads = integer("threads", threads)
    warmup = integer("warmup", warmup, least=0)
    runs = integer("runs", runs)
    one_of("verbose", verbose, (0, 1, False, True))
    quantize, representative_data = checked_kind(quantize, representative_data)
    if quantize and all(isinstance(model, (str, os.PathLike)) for model in models):
        raise ValueError(
            "`quantize` is for Keras models; files are timed as they are. Received: "
            f"quantize={quantize!r} and files alone"
        )
    with (
        tempfile.TemporaryDirectory() as folder,
        progress("timing", len(models) + warmup + runs, verbose) as step,
    ):
        runners, given = [], []
        for i, model in enumerate(models):
            step(f"preparing model {i + 1} of {len(models)}")
            path = Path(folder) / f"{i}.tflite"
            runners.append(
                _runner(
                    model,
                    path,
                    threads,
                    batch_size,
                    sequence_length,
                    inputs,
                    quantize,
                    representative_data,
                )
            )
            given.append(
                runners[-1].inputs(batch_size, sequence_length)
                if inputs is None
                else checked_inputs(inputs, runners[-1].names)
            )
        several = f"{len(models)} models in turn" if len(models) > 1 else "a model"
        times = np.empty((runs, len(runners)))
        for turn in range(-warmup, runs):
            step(f"{several}, {runs} time{'s' * (runs > 1)}")
            for i, (runner, arrays) in enumerate(zip(runners, given, strict=True)):
                if len(runners) > 1:
                    # The others have driven the weights of this one out of the caches.
                    runner.run(arrays)
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
            None if isinstance(model, (str, os.PathLike)) else quantize,
        )
        for column, model, runner, arrays in zip(times.T, models, runners, given, strict=True)
    ]
    return LatencyComparison(latencies, [float(np.median(c / times[:, 0])) for c in times.T])


def checked_kind(quantize: Any, representative_data: Any) -> tuple[str | None, Any]:
    """What kind of file is timed, and examples for it that can be read for several models.

    Args:
        quantize: As in `compare_latency`.
        representative_data: As in `compare_latency`.

    Raises:
        ValueError: If one is out of place.
    """
    from tfprune.export.comparing import QUANTIZED
    from tfprune.export.quantizing import read_often

    one_of("quantize", quantize, (None, *QUANTIZED))
    if representative_data is not None and quantize is None:
        raise ValueError(
            "`representative_data` is for files that are quantized: pass quantize='int8'. "
            "Received: quantize=None"
        )
    return quantize, read_often(representative_data)


def file_to_time(
    model: keras.Model,
    path: Path,
    batch_size: int,
    sequence_length: int,
    inputs: Sequence[np.ndarray] | None = None,
    quantize: str | None = None,
    representative_data: Any = None,
) -> Path:
    """Writes the LiteRT file of a model that is timed.

    Sizes stay open where the model leaves them so. A file that cannot be made then, as that of a
    recurrent layer, has those that are timed.

    Args:
        model: A Keras model.
        path: The file.
        batch_size: Batch size of default inputs.
        sequence_length: Size of their axes of unknown size.
        inputs: As in `compare_latency`.
        quantize: As in `compare_latency`.
        representative_data: As in `compare_latency`.

    Raises:
        ValueError: As `tfprune.export`.
    """
    from tfprune.export import export, with_inputs
    from tfprune.export.exporting import NeedsFixedSizes, file_for_timing
    from tfprune.export.inputs import example_inputs, of_shapes

    model = with_inputs(model, representative_data)

    examples = None
    if quantize == "int8":
        examples = representative_data
        if examples is None:
            made_up = example_inputs(model, batch_size, sequence_length)
            examples = tuple(made_up if inputs is None else inputs)

    def written(model, **sizes):
        if quantize is None:
            return export(model, path, **sizes)
        return file_for_timing(model, path, quantize, examples, **sizes)

    try:
        return written(model)
    except NeedsFixedSizes:
        if inputs is None:
            return written(model, batch_size=batch_size, sequence_length=sequence_length)
        return written(of_shapes(model, [np.shape(array) for array in inputs]))


def _runner(
    model, path: Path, threads: int, batch_size, sequence_length, inputs, quantize, examples
) -> Runner:
    """A model in LiteRT; a Keras model is written to `path` first."""
    from tfprune.export import with_inputs

    if isinstance(model, (str, os.PathLike)):
        if not os.fspath(model) or not Path(model).is_file():
            raise ValueError(
                f"`model` must be a Keras model or a .tflite file. Received: {model!r}, which is "
                "no file"
            )
        try:
            runner = Runner(model, None, threads)
        except (ValueError, RuntimeError, StopIteration) as error:
            raise ValueError(
                f"`model` must be a Keras model or a .tflite file. Received: {str(model)!r}, which "
                f"LiteRT cannot read: {error}"
            ) from error
        for name, detail in runner.details.items():
            if not np.issubdtype(detail["dtype"], np.number) and detail["dtype"] is not np.bool_:
                raise ValueError(
                    f"`model` must read numbers. Received: {str(model)!r}, whose input {name!r} "
                    "is of strings"
                )
        return runner
    model = check_numeric(with_inputs(built_model("model", model), examples))
    if inputs is not None:
        checked_inputs(inputs, [t.name for t in model.inputs])
    file_to_time(model, path, batch_size, sequence_length, inputs, quantize, examples)
    return Runner(path, [t.name for t in model.inputs], threads)
