"""What removing groups brings, in milliseconds measured on LiteRT."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np

from tfprune.arguments import built_model, integer, number, one_of, path_given
from tfprune.budgets.latency_check import LatencyCheck
from tfprune.budgets.latency_measuring import measured_cuts
from tfprune.configurable import Configurable
from tfprune.files import atomic_write
from tfprune.structures import Structures, find_structures
from tfprune.structures.matching import match
from tfprune.structures.places import places, renaming
from tfprune.tables import significant, table


@dataclass(frozen=True)
class LatencyTable(Configurable):
    """Measured times of a model with each structure cut to several sizes; prints as a table.

    Times nearly add up over layers, since a call runs them one after the other; so a table of
    single structures tells the time of any combination. By how much combined cuts save more or less
    than the sum is measured too. A table also serves other models that the same function has made,
    whatever Keras has named their layers.

    Args:
        full: Milliseconds of a call of the whole model.
        points: Structure name to `[groups left, milliseconds saved]` pairs, fewest groups first,
            the last of them all groups and 0.
        about: Where and how it was measured.
        together: `[sum of the savings of single structures, milliseconds saved]` pairs of cuts of
            all structures, least first. Empty: what is saved is the sum.
        layers: What tells the layers of the measured model apart. Empty, as in tables of older
            versions: structures are known by their names alone.

    Raises:
        ValueError: If an argument is not of that form.

    Example:

    >>> table = LatencyTable(10.0, {"ffn": [(0, 4.0), (8, 0.0)]})
    >>> table.milliseconds({"ffn": 2})
    7.0
    """

    full: float
    points: Mapping[str, Sequence[tuple[int, float]]]
    about: Mapping[str, Any] = field(default_factory=dict)
    together: Sequence[tuple[float, float]] = ()
    layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self):
        number("full", self.full, above=0)
        for name in ("points", "about", "layers"):
            if not isinstance(getattr(self, name), Mapping):
                raise ValueError(
                    f"`{name}` must be a mapping. Received: {name}={getattr(self, name)!r}"
                )
        for name, pairs in (*self.points.items(), ("together", self.together)):
            wrong = not _are_pairs(pairs) or not (len(pairs) or name == "together")
            if not wrong and len(pairs):
                array = np.asarray(pairs, "float64")
                wrong = not np.all(np.isfinite(array)) or bool(np.any(np.diff(array[:, 0]) < 0))
            if wrong:
                raise ValueError(
                    "`points` and `together` must hold pairs of finite numbers, in rising order of "
                    f"the first. Received: {name}={pairs!r}"
                )

    @classmethod
    def measure(
        cls,
        model: keras.Model,
        structures: Structures | None = None,
        shares: Sequence[float] = (0.0, 0.25, 0.5, 0.75),
        runs: int | None = None,
        seconds: float = 10.0,
        verbose: int = 1,
        **options: Any,
    ) -> LatencyTable:
        """Rebuilds a model with its structures cut to some shares, and times all in turn.

        Structures of the same kind and size are cut and timed together, since one alone may change
        the time by less than the noise. Cuts of all structures are timed as well.

        Args:
            model: A built model.
            structures: Those to measure; all by default.
            shares: Shares of the groups left, from 0 to 1; 0 is always measured too.
            runs: Rounds of the timing; by default as many as take `seconds`, 30 to 2000.
            seconds: How long the timing should take.
            verbose: 1 shows progress, on a terminal or in a notebook.
            **options: As in `tfprune.compare_latency`: `inputs`, `batch_size`, `sequence_length`,
                `threads`, `warmup`, and `quantize` with `representative_data`: in int8 other layers
                take most of the time than in float, so measure the kind of file that is deployed.

        Returns:
            The table.

        Raises:
            ValueError: If an argument is out of range, or the model cannot be timed.
        """
        from tfprune.measuring.timing import checked_kind

        built_model("model", model)
        runs = integer("runs", runs, optional=True)
        number("seconds", seconds, above=0)
        one_of("verbose", verbose, (0, 1, False, True))
        quantize, data = checked_kind(options.get("quantize"), options.get("representative_data"))
        if quantize:  # For all models.
            options = {**options, "quantize": quantize, "representative_data": data}
        structures = find_structures(model) if structures is None else structures
        if not len(structures):
            raise ValueError("`structures` must hold at least one. Received: none")
        wanted = sorted({0.0, *_checked_shares(shares)})
        about, single, of_all = measured_cuts(
            model, structures, wanted, runs, seconds, verbose, options
        )
        measured: dict[str, dict[int, float]] = {s.name: {} for s in structures}
        for cut in single:
            for s in cut.members:
                measured[s.name][cut.left[s.name]] = cut.saved / len(cut.members)
        points = {
            s.name: [
                # Noise must not make a smaller layer slower than a larger one.
                *_monotone(sorted(measured[s.name].items()), falling=True),
                (s.groups, 0.0),
            ]
            for s in structures
        }
        sums = cls(about["median"], points)
        together = sorted((sums.full - sums.milliseconds(c.left), c.saved) for c in of_all)
        if together:
            together = [(0.0, 0.0), *_monotone(together, falling=False)]
        return cls(sums.full, points, about, together, places(model))

    def milliseconds(self, counts: Mapping[str, int]) -> float:
        """A model's time with so many groups left, interpolated between measured points.

        Args:
            counts: Structure name, as in the measured model, to groups left; others stay whole.

        Raises:
            ValueError: If a structure was not measured.
        """
        self._check_known(counts)
        saved = 0.0
        for name, left in counts.items():
            groups, milliseconds = zip(*self.points[name], strict=True)
            saved += float(np.interp(left, groups, milliseconds))
        if len(self.together):
            sums, measured = zip(*self.together, strict=True)
            # Beyond what was measured, one for one.
            saved = float(np.interp(saved, sums, measured)) + max(0.0, saved - sums[-1])
        return float(self.full - saved)

    def __str__(self) -> str:
        rows = []
        for name, pairs in self.points.items():
            groups = pairs[-1][0]
            left, saved = zip(*pairs, strict=True)
            at = (np.interp(share * groups, left, saved) / self.full for share in _SHOWN)
            rows.append([name, groups, *(f"{share:.1%}" for share in at)])
        kind = f" as {self.about['quantize']}" if self.about.get("quantize") else ""
        title = (
            f"A call takes {significant(self.full)} ms{kind}. The share of that which is saved, "
            "where of the groups of one structure so many are left"
        )
        columns = ["layer", "groups", *(f"{share:.0%}" for share in _SHOWN)]
        return table(columns, rows, title, paths=True)

    def names_in(self, model: keras.Model, structures: Structures) -> dict[str, str]:
        """The names that structures of a model have in this table.

        Args:
            model: A model made by the same function as the one that was measured, or itself.
            structures: Structures of it.

        Returns:
            Structure name to the name in `points`.

        Raises:
            ValueError: If one was not measured, or with fewer groups.
        """
        name_of = renaming(self.layers, places(model)) if self.layers else str
        known = {s.name: name_of(s.name) for s in structures}
        names = {name: one for name, one in known.items() if one is not None and one in self.points}
        lost = [name for name in known if name not in names]
        if lost:
            raise ValueError(
                f"The latency table holds no {lost[0]!r}, nor a structure that lies where it does "
                f"and has as many groups. It holds: {', '.join(self.points)}. Measure a table on "
                "this model."
            )
        for s in structures:
            measured = self.points[names[s.name]][-1][0]
            if s.groups > measured:
                raise ValueError(
                    f"The latency table knows {names[s.name]!r} with at most {measured} groups. "
                    f"Received: a model with {s.groups}. Measure the table on this model."
                )
        return names

    def check(
        self,
        small: keras.Model,
        before: keras.Model | None = None,
        asked: float | None = None,
        **options: Any,
    ) -> LatencyCheck:
        """Measures a rebuilt model, beside what the table predicts of it.

        Args:
            small: What `tfprune.rebuild` has made of the measured model, or of one like it.
            before: The whole model, to be timed in turn with it: tells how fast the machine is now.
            asked: Milliseconds that were asked for.
            **options: As in `tfprune.compare_latency`; by default those of the table, and 200 runs.
                Examples for `"int8"` are not in a table: give `representative_data` again, or
                ranges of values are measured on made-up inputs.

        Returns:
            A `LatencyCheck`: `print` it, or use its numbers.

        Raises:
            ValueError: If a model cannot be timed.
        """
        from tfprune.measuring.timing import compare_latency

        built_model("small", small)
        known = {k: v for k, v in self.about.items() if k in _OPTIONS}
        models = [small] if before is None else [small, built_model("before", before)]
        timed = compare_latency(models, **{"runs": 200, **known, **options}).latencies
        return LatencyCheck(
            timed[0].median,
            self._predicted(small),
            None if asked is None else float(asked),
            None if before is None else timed[1].median,
        )

    def _predicted(self, small) -> float | None:
        groups = {name: pairs[-1][0] for name, pairs in self.points.items()}
        if self.layers:
            matched = match(groups, self.layers, small)
            return None if matched.only_before else self.milliseconds(matched.left)
        left = {s.name: s.groups for s in find_structures(small) if s.name in groups}
        # Nothing may be left of others, or they are not the model's.
        return self.milliseconds(dict.fromkeys(groups, 0) | left) if left else None

    def _check_known(self, names) -> None:
        unknown = [name for name in names if name not in self.points]
        if unknown:
            raise ValueError(
                f"The latency table holds no {unknown[0]!r}. It holds: {', '.join(self.points)}"
            )

    def save(self, path: str | os.PathLike) -> None:
        """Writes it as JSON."""
        with atomic_write(Path(path_given("path", path))) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike) -> LatencyTable:
        """Reads what `save` wrote, also in older versions.

        Raises:
            ValueError: If the file is no such table.
        """
        path_given("path", path)
        try:
            return cls(**json.loads(Path(path).read_text()))
        except (OSError, TypeError, ValueError) as error:
            raise ValueError(f"`path` holds no latency table: {path}. {error}") from error


_Number = TypeVar("_Number", int, float)

_SHOWN = (0.75, 0.5, 0.25, 0.0)  # Shares of the groups left.

_OPTIONS = ("batch_size", "sequence_length", "threads", "warmup", "quantize")


def _are_pairs(pairs) -> bool:
    return isinstance(pairs, (list, tuple)) and all(
        isinstance(p, (list, tuple))
        and len(p) == 2
        and all(isinstance(x, (int, float, np.number)) for x in p)
        for p in pairs
    )


def _checked_shares(shares) -> list[float]:
    if isinstance(shares, (str, Mapping)) or not isinstance(shares, Iterable):
        raise ValueError(f"`shares` must be a list of shares. Received: shares={shares!r}")
    return [number("shares", share, least=0, most=1) for share in shares]


def _monotone(pairs: Sequence[tuple[_Number, float]], falling: bool) -> list[tuple[_Number, float]]:
    """The monotone numbers, 0 or more, that are closest to measured ones.

    Pairs that are in the wrong order are given their mean, until none is (Ayer et al., "An
    Empirical Distribution Function for Sampling with Incomplete Information", 1955).
    """
    sign = -1 if falling else 1
    blocks: list[list[float]] = []  # Their sums, and how many are in each.
    for _, value in pairs:
        blocks.append([sign * value, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    means = [sign * total / count for total, count in blocks for _ in range(int(count))]
    return [(x, max(0.0, float(mean))) for (x, _), mean in zip(pairs, means, strict=True)]
