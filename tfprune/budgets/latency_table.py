"""What removing groups brings, in milliseconds measured on LiteRT."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfprune.configurable import Configurable
from tfprune.files import whole
from tfprune.structures import Structures, find_structures


@dataclass(frozen=True)
class LatencyTable(Configurable):
    """Measured times of a model with each structure cut to several sizes.

    Times add up well over layers, since a call runs them one after the other; so a table of single
    structures tells the time of any combination.

    Args:
        full: Milliseconds of a call of the whole model.
        points: Structure name to `[groups left, milliseconds saved]` pairs, fewest groups first,
            the last of them all groups and 0.
        about: Where and how it was measured.

    Example:

    >>> table = LatencyTable(10.0, {"ffn": [(0, 4.0), (8, 0.0)]})
    >>> table.milliseconds({"ffn": 2})
    7.0
    """

    full: float
    points: Mapping[str, Sequence[tuple[int, float]]]
    about: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def measure(
        cls,
        model: keras.Model,
        structures: Structures | None = None,
        shares: Sequence[float] = (0.0, 0.25, 0.5, 0.75),
        **options: Any,
    ) -> LatencyTable:
        """Rebuilds a model with its structures cut to some shares, and times all in turn.

        Structures of the same kind and size are cut and timed together, since one alone may change
        the time by less than the noise.

        Args:
            model: A built model.
            structures: Those to measure; all by default.
            shares: Shares of the groups left.
            **options: As in `tfprune.compare_latency`: `sequence_length`, `threads`, `runs`.

        Returns:
            The table.
        """
        from tfprune.measuring.timing import compare_latency
        from tfprune.rebuild import rebuild

        structures = find_structures(model) if structures is None else structures
        alike: dict[tuple, list[Any]] = {}
        for s in structures:
            alike.setdefault((s.kind, s.groups, s.group_size), []).append(s)
        models, cuts = [model], []
        for members in alike.values():
            groups = members[0].groups
            for left in sorted({round(share * groups) for share in shares} - {groups}):
                keep = {s.name: np.arange(groups) < left for s in members}
                models.append(rebuild(model, keep=keep))
                cuts.append((members, left))
        compared = compare_latency(models, **options)
        latency = compared.latencies[0]
        points: dict[str, list[tuple[int, float]]] = {s.name: [] for s in structures}
        for (members, left), ratio in zip(cuts, compared.ratios[1:], strict=True):
            for s in members:
                points[s.name].append((left, latency.median * (1 - ratio) / len(members)))
        return cls(
            latency.median,
            {s.name: [*_falling(points[s.name]), (s.groups, 0.0)] for s in structures},
            latency.to_dict(),
        )

    def milliseconds(self, counts: Mapping[str, int]) -> float:
        """A model's time with so many groups left, interpolated between measured points.

        Raises:
            ValueError: If a structure was not measured.
        """
        unknown = [name for name in counts if name not in self.points]
        if unknown:
            raise ValueError(
                f"The latency table holds no {unknown[0]!r}. It holds: {', '.join(self.points)}"
            )
        saved = (
            np.interp(left, *zip(*self.points[name], strict=True)) for name, left in counts.items()
        )
        return float(self.full - sum(saved))

    def save(self, path: str | os.PathLike) -> None:
        """Writes it as JSON."""
        with whole(Path(path)) as fresh:
            fresh.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike) -> LatencyTable:
        """Reads what `save` wrote.

        Raises:
            ValueError: If the file is no such table.
        """
        try:
            return cls(**json.loads(Path(path).read_text()))
        except (OSError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"`path` holds no latency table: {path}. {error}") from error


def _falling(points):
    """Noise must not make a smaller layer slower than a larger one."""
    left, saved = zip(*points, strict=True)
    saved = np.maximum.accumulate(np.maximum(saved, 0.0)[::-1])[::-1]
    return [(n, float(ms)) for n, ms in zip(left, saved, strict=True)]
