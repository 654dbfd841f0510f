"""Before and after, in one table."""

from __future__ import annotations

import io
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras

from tfprune.measuring.counting import count_flops, count_parameters
from tfprune.measuring.timing import compare_latency
from tfprune.structures import find_structures


@dataclass
class Comparison:
    """What `tfprune.compare` found; prints as a table.

    Args:
        figures: Name to `(before, after)`: parameters, FLOPs, bytes of the weights and of the
            `.tflite` file, LiteRT milliseconds.
        survivors: Structure name to `(left, total)`.
        kinds: Structure name to kind.
        latency_ratio: Median of time after by time before, timed in turn, or `None`.
        notes: What could not be measured, and why.
        conditions: Batch size, sequence length and threads of the timing.
    """

    figures: dict[str, tuple[float, float]]
    survivors: dict[str, tuple[int, int]]
    kinds: dict[str, str]
    latency_ratio: float | None = None
    notes: list[str] = field(default_factory=list)
    conditions: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Everything, JSON-able."""
        return {
            "figures": {k: list(v) for k, v in self.figures.items()},
            "survivors": {k: list(v) for k, v in self.survivors.items()},
            "latency_ratio": self.latency_ratio,
            "notes": self.notes,
            "conditions": self.conditions,
        }

    def plot(self, path: str | os.PathLike | None = None):
        """Draws the survivors of each layer; see `tfprune.plots.survivors`."""
        from tfprune.reports.plots import survivors

        return survivors(self.survivors, path, kinds=self.kinds)

    def __str__(self) -> str:
        from rich.console import Console
        from rich.table import Table

        console = Console(file=io.StringIO(), width=100)
        table = Table(title="Before and after", title_justify="left")
        for name in ("", "before", "after", "after / before"):
            table.add_column(name, justify="left" if not name else "right")
        for name, (before, after) in self.figures.items():
            ratio = self.latency_ratio if name.startswith("LiteRT") else after / max(before, 1e-9)
            table.add_row(name, _number(before), _number(after), f"{ratio:.2f}")
        console.print(table)
        layers = Table(title="Groups left", title_justify="left")
        layers.add_column("layer", overflow="fold")
        layers.add_column("kind")
        layers.add_column("left", justify="right")
        layers.add_column("of", justify="right")
        for name, (left, total) in self.survivors.items():
            layers.add_row(name, self.kinds[name], f"{left:,}", f"{total:,}")
        if self.survivors:
            console.print(layers)
        gone = [name for name, (left, _) in self.survivors.items() if not left]
        if gone:
            console.print(f"Nothing is left of {', '.join(gone)}: skipped at inference.")
        for note in self.notes:
            console.print(note)
        return console.file.getvalue().rstrip("\n")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.3f}"


def compare(
    before: keras.Model,
    after: keras.Model,
    inputs=None,
    batch_size: int = 1,
    sequence_length: int = 128,
    threads: int = 1,
    latency: bool = True,
) -> Comparison:
    """Compares a model with what `rebuild` made of it.

    Args:
        before: The model as it was.
        after: The smaller model.
        inputs: Arrays for the timing, in the order of the inputs; made up by default.
        batch_size: Batch size of made-up inputs, also for the FLOPs.
        sequence_length: Size of their open axes.
        threads: Threads of LiteRT.
        latency: Whether to export both to LiteRT and time them in turn.

    Returns:
        `Comparison`: `print` it, or take `to_dict()` or `plot()`.

    Raises:
        ValueError: If either is no built Keras model.

    Example:

    >>> import keras, numpy as np, tfprune
    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.Dense(8, "relu", name="hidden"),
    ...     keras.layers.Dense(2, name="out"),
    ... ])
    >>> small = tfprune.rebuild(model, keep={"hidden": np.arange(8) < 3})
    >>> result = tfprune.compare(model, small, latency=False)
    >>> result.figures["FLOPs"], result.survivors
    ((96, 36), {'hidden': (3, 8)})
    """
    for name, model in (("before", before), ("after", after)):
        if not isinstance(model, keras.Model) or not model.built:
            raise ValueError(f"`{name}` must be a built Keras model. Received: {model!r}")
    left = {s.name: s.groups for s in find_structures(after)}
    structures = find_structures(before)
    result = Comparison(
        figures={"parameters": (count_parameters(before), count_parameters(after))},
        survivors={s.name: (left.get(s.name, 0), s.groups) for s in structures},
        kinds={s.name: s.kind for s in structures},
        conditions={
            "batch_size": batch_size,
            "sequence_length": sequence_length,
            "threads": threads,
        },
    )
    try:
        result.figures["FLOPs"] = tuple(
            count_flops(m, batch_size, sequence_length) for m in (before, after)
        )
    except Exception as error:  # A model that cannot be traced still has parameters.
        result.notes.append(f"FLOPs were not counted: {_first_line(error)}")
    with tempfile.TemporaryDirectory() as folder:
        # Weights alone: a compiled model's file also holds the optimizer's memory of each.
        result.figures["bytes of weights"] = tuple(_weight_bytes(m) for m in (before, after))
        if latency:
            _time(result, (before, after), Path(folder), inputs)
    return result


def _weight_bytes(model) -> int:
    return sum(keras.ops.convert_to_numpy(w).nbytes for w in model.weights)


def _time(result: Comparison, models, folder, inputs) -> None:
    from tfprune.export import export

    try:
        paths = [export(m, folder / f"{i}.tflite") for i, m in enumerate(models)]
        result.figures["bytes (.tflite)"] = tuple(p.stat().st_size for p in paths)
        timed = compare_latency(paths, inputs, **result.conditions)
    except Exception as error:  # Not every model converts; the rest of the table stands.
        result.notes.append(f"LiteRT was not timed: {_first_line(error)}")
        return
    result.figures["LiteRT ms"] = tuple(x.median for x in timed.latencies)
    result.latency_ratio = timed.ratios[1]


def _first_line(error) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
