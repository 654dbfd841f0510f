"""Cuts a model in several ways and times what is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tfprune.progress import progress
from tfprune.structures import Structure, Structures

_PILOT_RUNS = 100
_FEWEST_RUNS, _MOST_RUNS = 30, 2000


@dataclass(frozen=True)
class Cut:
    """Some structures cut to some sizes.

    Args:
        members: The structures.
        left: Structure name to groups left.
        saved: Milliseconds that this saves.
    """

    members: Sequence[Structure]
    left: dict[str, int]
    saved: float = 0.0


def measured_cuts(
    model: keras.Model,
    structures: Structures,
    shares: Sequence[float],
    runs: int | None,
    seconds: float,
    verbose: int,
    options: dict[str, Any],
) -> tuple[dict[str, Any], list[Cut], list[Cut]]:
    """Times cuts of structures that are alike, and cuts of all; see `LatencyTable.measure`.

    Returns:
        What was measured of the whole model; cuts of structures that are alike; cuts of all
        structures, none if all are alike. What is saved is in the unit of the whole model's time.
    """
    from tfprune.measuring.timing import compare_latency, measure_latency
    from tfprune.rebuild import rebuild

    alike: dict[tuple, list[Structure]] = {}
    for s in structures:
        alike.setdefault((s.kind, s.groups, s.group_size), []).append(s)
    single = [cut for members in alike.values() for cut in _cuts(members, shares)]
    cuts = single + (_cuts(list(structures), shares) if len(alike) > 1 else [])
    with progress("latency table", len(cuts) + 2, verbose) as step:
        step("timing the whole model")
        alone = measure_latency(model, runs=runs or _PILOT_RUNS, verbose=verbose, **options)
        models = [model]
        for cut in cuts:
            step(f"cutting {len(cut.members)} structures")
            keep = {s.name: np.arange(s.groups) < cut.left[s.name] for s in cut.members}
            models.append(rebuild(model, keep=keep))
        # Each is called twice in its turn.
        fitting = 1000 * seconds / (2 * alone.median * len(models))
        runs = runs or int(np.clip(fitting, _FEWEST_RUNS, _MOST_RUNS))
        step(f"timing {len(models)} models in turn, {runs} times")
        ratios = compare_latency(models, runs=runs, verbose=verbose, **options).ratios[1:]
    # Among many models all are a little slower than alone, so ratios count: in that unit the whole
    # model takes what `measure_latency` tells.
    timed = [
        Cut(cut.members, cut.left, alone.median * (1 - ratio))
        for cut, ratio in zip(cuts, ratios, strict=True)
    ]
    about = alone.to_dict() | {"runs": runs}
    about |= {k: v for k, v in options.items() if isinstance(v, (int, str))}
    return about, timed[: len(single)], timed[len(single) :]


def _cuts(members: Sequence[Structure], shares) -> list[Cut]:
    """The cuts of structures to shares of their groups that differ, most groups first."""
    cuts: dict[tuple, Cut] = {}
    for share in sorted(shares, reverse=True):
        left = {s.name: round(share * s.groups) for s in members}
        cuts.setdefault(tuple(left.values()), Cut(members, left))
    full = tuple(s.groups for s in members)
    return [cut for numbers, cut in cuts.items() if numbers != full]
