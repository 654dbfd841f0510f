"""What `GroupLasso` says of a strength or of a span that did not fit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tfprune import penalties
from tfprune.structures import Structures
from tfprune.user_warnings import warn

# The share of the weights of all groups below which the strength is said to be too high.
ALMOST_NOTHING = 0.02
# Groups of more than this share of what was usual are said to be large when they are removed.
LARGE = 0.25


def warn_of_strength(
    name: str,
    structures: Structures,
    left: Mapping[str, int],
    references: np.ndarray,
    relative_threshold: float,
    has_pressed: bool,
) -> None:
    """Says so if the strength has removed nothing, or almost all.

    Args:
        name: Of the callback.
        structures: What is pruned.
        left: Structure name to how many groups are left.
        references: The root mean square that was usual at first, `(structures,)`.
        relative_threshold: As in `GroupLasso`.
        has_pressed: Whether there was a penalty at all.
    """
    groups = sum(s.groups for s in structures)
    weights = sum(s.weights for s in structures)
    share = sum(left[s.name] * s.group_size for s in structures) / weights
    if not any(left.values()):
        warn(
            f"{name} has removed every group of every structure: {', '.join(left)}. "
            "The strength is too high.",
        )
    elif share < ALMOST_NOTHING:
        warn(
            f"{name}: almost nothing is left: {sum(left.values())} of {groups} groups, "
            f"{100 * share:.2g} % of their weights. Lower `strength`, or let it press for a "
            "shorter time (`start`, `stop`).",
        )
    elif sum(left.values()) == groups and has_pressed:
        smallest = min(
            float(np.min(penalties.root_mean_squares(s)) / max(reference, 1e-12))
            for s, reference in zip(structures, references, strict=True)
        )
        warn(
            f"{name}: nothing was removed: of {groups} groups the smallest has {smallest:.2g} "
            "of the root mean square that was usual when pruning started, and "
            f"`relative_threshold` is {relative_threshold:g}. Raise `strength`, or let it "
            "press for a longer time (`start`, `stop`).",
        )


def warn_of_large(
    name: str,
    structures: Structures,
    sizes: Mapping[str, np.ndarray],
    keep: Mapping[str, np.ndarray],
    is_steered: bool,
) -> None:
    """Says so if groups that are about to be removed for a target are still large.

    Args:
        name: Of the callback.
        structures: What is pruned.
        sizes: Structure name to root mean squares, as shares of what was usual at first.
        keep: Structure name to which groups stay.
        is_steered: Whether there is a strength that could begin higher.
    """
    higher = (
        "begin with a higher `strength` (`strengths_reached` has the last), " if is_steered else ""
    )
    large = []
    for kind in structures.kinds:
        mine = [s for s in structures if s.kind == kind]
        leave = np.concatenate([sizes[s.name][~keep[s.name]] for s in mine])
        if len(leave) and leave.mean() > LARGE:
            large.append(f"{len(leave)} {kind} with {100 * leave.mean():.0f} %")
    if large:
        warn(
            f"{name}: the target is met by removing groups that the penalty has "
            f"not made small: {', '.join(large)} of the root mean square that was usual when "
            f"pruning started. Let it press for a longer time (`start`, `stop`), {higher}or look "
            "more often (`check_every`).",
        )
