"""Compares a model before and after pruning."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from tfprune import native_messages
from tfprune.arguments import built_model, finite_weights, integer, one_of
from tfprune.errors import in_one_line
from tfprune.measuring.counting import count_flops, count_parameters, own_weights
from tfprune.measuring.input_checks import checked_inputs
from tfprune.measuring.timing import checked_kind, compare_latency, file_to_time
from tfprune.progress import progress
from tfprune.reports.related import check_related
from tfprune.structures import find_structures
from tfprune.structures.matching import match
from tfprune.structures.places import places
from tfprune.tables import significant, table, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Comparison:
    """The result of `tfprune.compare`; prints as a table.

    Args:
        figures: Name to `(before, after)`: parameters; those in groups, such as heads and units,
            that are not zero, which is what papers on blocks and single weights count; FLOPs; bytes
            of the weights and of the `.tflite` file; LiteRT milliseconds.
        survivors: Structure name to `(left, total)`.
        kinds: Structure name to kind.
        latency_ratio: Median of the time after divided by the time before, both timed in turn;
            `None` if not measured.
        notes: What could not be measured, and why.
        conditions: Batch size, sequence length and threads of the timing.
        unmatched: Structures of one model of which it cannot be told what they are in the other
            one, and why.
        quantize: Of what kind the LiteRT files are, as in `tfprune.export`.
    """

    figures: dict[str, tuple[float, float]]
    survivors: dict[str, tuple[int, int]]
    kinds: dict[str, str]
    latency_ratio: float | None = None
    notes: list[str] = field(default_factory=list)
    conditions: dict[str, Any] = field(default_factory=dict)
    unmatched: dict[str, str] = field(default_factory=dict)
    quantize: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """All values, as types that JSON knows."""
        return {
            "figures": {k: list(v) for k, v in self.figures.items()},
            "survivors": {k: list(v) for k, v in self.survivors.items()},
            "latency_ratio": self.latency_ratio,
            "notes": self.notes,
            "conditions": self.conditions,
            "unmatched": self.unmatched,
            "quantize": self.quantize,
        }

    def plot(self, path: str | os.PathLike | None = None) -> Figure:
        """Draws the survivors of each layer; see `tfprune.reports.plots.survivors`.

        Args:
            path: Where to write a PNG; `None` writes none.

        Returns:
            The matplotlib `Figure`.
        """
        from tfprune.reports.plots import survivors

        return survivors(self.survivors, path, kinds=self.kinds)

    def __str__(self) -> str:
        rows = []
        for name, (before, after) in self.figures.items():
            ratio = self.latency_ratio if name.startswith("LiteRT") else after / max(before, 1e-9)
            if self.quantize and (name.startswith("LiteRT") or name.endswith("(.tflite)")):
                name = f"{name}, {self.quantize}"
            rows.append((name, _number(before), _number(after), f"{ratio:.2f}"))
        parts = [table(["", "before", "after", "after / before"], rows, "Before and after")]
        if self.survivors:
            groups = [
                (n, self.kinds[n], left, total) for n, (left, total) in self.survivors.items()
            ]
            parts.append(
                table(["layer", "kind", "left", "of"], groups, "Groups left", 2, paths=True)
            )
        removed = [name for name, (left, _) in self.survivors.items() if not left]
        if removed:
            parts.append(wrapped(f"Nothing is left of {', '.join(removed)}: skipped at inference."))
        if self.unmatched:
            listed = ", ".join(f"{name} ({why})" for name, why in self.unmatched.items())
            parts.append(wrapped(f"Not matched: {listed}."))
        return "\n".join([*parts, *map(wrapped, self.notes)])


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else significant(value)


@native_messages.filtered()
def compare(
    before: keras.Model,
    after: keras.Model,
    inputs: Any = None,
    batch_size: int = 1,
    sequence_length: int = 128,
    threads: int = 1,
    latency: bool = True,
    verbose: int = 1,
    quantize: str | None = None,
    representative_data: Any = None,
) -> Comparison:
    """Compares a model with the smaller one that `tfprune.rebuild` has made of it.

    Args:
        before: The model before pruning, or another one made by the same function: layers are
            matched by where they are, so that it does not matter how Keras has numbered them.
        after: The smaller model.
        inputs: Arrays for the timing, in the order of the inputs; by default ones and random
            numbers.
        batch_size: Batch size of default inputs, and for the FLOPs.
        sequence_length: Size of axes of unknown size, likewise.
        threads: Threads of LiteRT.
        latency: Whether to export both to LiteRT and time them in turn.
        verbose: 1 shows the progress of that, on a terminal or in a notebook.
        quantize: Of what kind the LiteRT files are, as in `tfprune.export`; `None` is float.
            Quantized files are not compared with their models.
        representative_data: As in `tfprune.export`, for `"int8"`; by default the inputs.

    Returns:
        A `Comparison`: `print` it, or use `to_dict()` or `plot()`.

    Raises:
        ValueError: If one of them is not a built Keras model, if they have other inputs or
            outputs, if one has weights that are not finite, if `inputs` is no list of as many
            arrays as `before` has inputs, if a number is out of range, if `quantize` is none that
            `tfprune.export` knows or is given with `latency=False`, or if `representative_data`
            does not fit `before` or is given without `quantize`.

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
    from tfprune.export import with_inputs
    from tfprune.export.quantizing import examples_of

    built_model("before", before)
    built_model("after", after)
    conditions = {
        "batch_size": integer("batch_size", batch_size),
        "sequence_length": integer("sequence_length", sequence_length),
        "threads": integer("threads", threads),
    }
    one_of("verbose", verbose, (0, 1, False, True))
    quantize, data = checked_kind(quantize, representative_data)
    if quantize and not latency:
        raise ValueError(
            "`quantize` is of the files that are timed. Received: "
            f"quantize={quantize!r}, latency=False"
        )
    kind = {"quantize": quantize, "representative_data": data}
    check_related(before, after)
    finite_weights("before", before)
    finite_weights("after", after)
    if inputs is not None:
        checked_inputs(inputs, [t.name for t in with_inputs(before).inputs])
    if quantize == "int8" and data is not None:
        examples_of(with_inputs(before, data), data)
    structures, left = find_structures(before), find_structures(after)
    matched = match({s.name: s.groups for s in structures}, places(before), after, left)
    kept = [s for s in structures if s.name in matched.left]
    result = Comparison(
        figures={
            "parameters": (count_parameters(before), count_parameters(after)),
            "non-zero in groups": (structures.nonzero_weights, left.nonzero_weights),
        },
        survivors={s.name: (matched.left[s.name], s.groups) for s in kept},
        kinds={s.name: s.kind for s in kept},
        conditions=conditions,
        quantize=quantize,
        unmatched=dict.fromkeys(matched.only_after, "only in the model after")
        | dict.fromkeys(matched.only_before, "only in the model before"),
    )
    of_before, of_after = result.figures["parameters"]
    if of_after > of_before:
        result.notes.append(
            "The model after has more parameters than the one before: were they given in turn, "
            "compare(before, after)?"
        )
    try:
        result.figures["FLOPs"] = (
            count_flops(before, batch_size, sequence_length),
            count_flops(after, batch_size, sequence_length),
        )
    except Exception as error:  # The rest of the table does not need a model that can be traced.
        result.notes.append(f"FLOPs were not counted: {in_one_line(error)}")
    with tempfile.TemporaryDirectory() as folder:
        # Weights alone: the file of a compiled model also holds the optimizer's variables.
        result.figures["bytes of weights"] = (_weight_bytes(before), _weight_bytes(after))
        if latency:
            _time(result, (before, after), Path(folder), inputs, verbose, kind)
    return result


def _weight_bytes(model) -> int:
    return sum(keras.ops.convert_to_numpy(w).nbytes for w in own_weights(model))


def _time(result: Comparison, models, folder, inputs, verbose, kind) -> None:
    sizes = {k: result.conditions[k] for k in ("batch_size", "sequence_length")}
    try:
        with progress("comparing", len(models) + 1, verbose) as step:
            paths = []
            for i, model in enumerate(models):
                step(f"writing the model {('before', 'after')[i]}")
                path = folder / f"{i}.tflite"
                paths.append(file_to_time(model, path, **sizes, inputs=inputs, **kind))
            result.figures["bytes (.tflite)"] = paths[0].stat().st_size, paths[1].stat().st_size
            step("timing both in turn")
            timed = compare_latency(paths, inputs, **result.conditions, verbose=verbose)
    except Exception as error:  # Not every model can be converted to LiteRT.
        result.notes.append(f"LiteRT was not timed: {in_one_line(error)}")
        return
    result.figures["LiteRT ms"] = timed.latencies[0].median, timed.latencies[1].median
    result.latency_ratio = timed.ratios[1]
