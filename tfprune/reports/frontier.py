"""Quality, parameters and latency of each size of a model."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from tfprune.arguments import built_model, integer, number, one_of
from tfprune.gates.chosen_subnetwork import at_subnetwork
from tfprune.gates.dynamic import at_size, size_of
from tfprune.measuring.counting import count_parameters
from tfprune.measuring.timing import compare_latency
from tfprune.rebuild import rebuild
from tfprune.tables import significant, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Frontier:
    """The result of `tfprune.sizes`; prints as a table.

    Args:
        rows: One dictionary for each size, largest first: `size`, `parameters`, the metrics of
            `evaluate`, and, if measured, `milliseconds` in LiteRT and `time`, the median of its
            ratios to the time of the largest size, timed in turn.
        conditions: Sequence length, batch size and threads of the timing.
    """

    rows: list[dict[str, float]]
    conditions: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """All values, as types that JSON knows."""
        return {"rows": self.rows, "conditions": self.conditions}

    def plot(self, path: str | os.PathLike | None = None, quality: str | None = None) -> Figure:
        """Draws quality against speed, or against parameters where no time was measured.

        Args:
            path: Where to write a PNG; `None` writes none.
            quality: The metric to draw; by default the first that is not a loss. Of a loss the
                negative value is drawn, so that higher is better.

        Returns:
            The matplotlib `Figure`.

        Raises:
            ValueError: If there is no such metric.
        """
        from tfprune.reports.plots import pareto

        known = {"size", "parameters", "milliseconds", "time"}
        metrics = [name for name in self.rows[0] if name not in known]
        quality = quality or next((m for m in metrics if not m.endswith("loss")), metrics[-1])
        if quality not in metrics:
            raise ValueError(
                f"`quality` must be one of {', '.join(metrics)}. Received: {quality!r}"
            )
        timed = "time" in self.rows[0]
        sign, label = (-1, f"-{quality}") if quality.endswith("loss") else (1, quality)
        column = "time" if timed else "parameters"
        points = {
            f"{row['size']:g}": (self.rows[0][column] / row[column], sign * row[quality])
            for row in self.rows
        }
        x = "times as fast as the largest (LiteRT)" if timed else "times smaller than the largest"
        return pareto(points, path, x=x, y=label, title="One training, every size", least_range=0)

    def __str__(self) -> str:
        rows = [[_cell(value) for value in row.values()] for row in self.rows]
        return table(list(self.rows[0]), rows, "Sizes", text_columns=0)


def _cell(value):
    return value if isinstance(value, int) else significant(value)


def sizes(
    model: keras.Model,
    data: Any = None,
    sizes: Sequence[float] = (1.0, 0.75, 0.5, 0.25),
    subnetwork: str | None = None,
    latency: bool = True,
    quantize: str | None = None,
    sequence_length: int = 128,
    batch_size: int = 1,
    threads: int = 1,
    verbose: int = 1,
) -> Frontier:
    """Shows quality, parameters and LiteRT latency of each size of a model.

    Args:
        model: A compiled model that was trained with `tfprune.callbacks.DynamicSparsity`.
        data: What `model.evaluate` is called on, a dataset or `(x, y)`; with `None` quality is not
            measured.
        sizes: The sizes, as shares of the weights of the pruned structures.
        subnetwork: The name of the subnetwork to measure, in a model with `subnetworks`; `data`
            should hold examples of it alone.
        latency: Whether to export each size to LiteRT and time them in turn.
        quantize: As in `tfprune.export`.
        sequence_length: Size of axes of unknown size, in the inputs that are timed.
        batch_size: Batch size of the inputs that are timed.
        threads: Threads of LiteRT.
        verbose: 1 prints which size is being measured, and shows the progress of the timing.

    Returns:
        A `Frontier`: `print` it, or use `to_dict()` or `plot()`.

    Raises:
        ValueError: If the model has only one size, a size is out of range, `data` is given for a
            model that is not compiled, or the model cannot read inputs of `sequence_length`.

    Example: see `tfprune.callbacks.DynamicSparsity`; then `print(tfprune.sizes(model, data))`.
    """
    built_model("model", model)
    if isinstance(sizes, (str, Mapping)) or not isinstance(sizes, Iterable):
        raise ValueError(
            f"`sizes` must be a list of sizes, such as [1.0, 0.5]. Received: sizes={sizes!r}"
        )
    sizes = [number("sizes", size, above=0, most=1) for size in sizes]
    conditions = {
        "sequence_length": integer("sequence_length", sequence_length),
        "batch_size": integer("batch_size", batch_size),
        "threads": integer("threads", threads),
    }
    one_of("verbose", verbose, (0, 1, False, True))
    if size_of(model) is None:
        raise ValueError(
            "`model` must have been trained with `tfprune.callbacks.DynamicSparsity` and still "
            "carry its gates. Received: a model without gates of several sizes."
        )
    if data is not None and not model.compiled:
        raise ValueError("`model` must be compiled, for its metrics, if `data` is given.")
    ordered = sorted(set(sizes), reverse=True)
    if not ordered:
        raise ValueError("`sizes` must hold at least one size. Received: none")
    rows, small = [], {}
    for size in ordered:
        if verbose:
            print(f"size {size:g} ...", flush=True)
        small[size] = rebuild(model, size=size, subnetwork=subnetwork)
        rows.append({"size": size, "parameters": count_parameters(small[size])})
        if data is not None:
            with at_size(model, size), at_subnetwork(model, subnetwork):
                rows[-1] |= _quality(model, data)
    if latency:
        _time(rows, small, quantize, conditions, verbose)
    return Frontier(rows, conditions)


def _quality(model, data) -> dict[str, float]:
    given = {"x": data[0], "y": data[1]} if isinstance(data, tuple) else {"x": data}
    result: Mapping[str, Any] = model.evaluate(**given, return_dict=True, verbose=0)
    return {name: float(value) for name, value in result.items()}


def _time(rows, small, quantize, conditions, verbose) -> None:
    from tfprune.export import export

    with tempfile.TemporaryDirectory() as folder:
        files = [
            export(model, Path(folder) / f"{size}.tflite", quantize=quantize)
            for size, model in small.items()
        ]
        timed = compare_latency(files, **conditions, verbose=verbose)
    for row, latency, ratio in zip(rows, timed.latencies, timed.ratios, strict=True):
        row |= {"milliseconds": latency.median, "time": ratio}
