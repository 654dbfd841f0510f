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

from tfprune.litert import Runner


@dataclass(frozen=True)
class Timing:
    """The time that one call takes.

    Args:
        median: Milliseconds.
        fastest: Milliseconds.
        percentile_90: Milliseconds.
        runs: How many calls were timed.
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
        inputs: Arrays in the order of the inputs; by default ones and random numbers.
        batch_size: Batch size of default inputs.
        sequence_length: Size of their axes of unknown size.
        threads: Threads of the interpreter.
        warmup: Calls before timing begins.
        runs: Calls that are timed.

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
        latencies: The timing of each model.
        ratios: For each model, the median over rounds of its time divided by that of the first.
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
    """Times several models in turn, A B A B, so that other load affects them alike.

    Args:
        models: Keras models or `.tflite` files; the others are compared with the first.
        inputs: Arrays in the order of the inputs; by default ones and random numbers.
        batch_size: Batch size of default inputs.
        sequence_length: Size of their axes of unknown size.
        threads: Threads of the interpreter.
        warmup: Rounds before timing begins.
        runs: Rounds that are timed.

    Returns:
        `LatencyComparison`.

    Raises:
        ValueError: As `measure_latency`.

    Example:

    >>> import keras, tfprune
    >>> models = [
    ...     keras.Sequential([keras.Input((4,)), keras.layers.Dense(units)]) for units in (2, 3)]
    >>> timed = tfprune.compare_latency(models, runs=3)
    >>> len(timed.latencies), timed.ratios[0]
    (2, 1.0)
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
