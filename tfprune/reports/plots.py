"""Plots: the groups left in each layer, quality against speed, distances of subnetworks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from tfprune.extras import require
from tfprune.files import atomic_write

# Okabe and Ito's palette, which colour-blind readers can tell apart.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_MARKERS = ("o", "s", "^")
_GONE = "#E3E3E3"
_SIDES = ((True, True), (False, False), (True, False), (False, True))


def survivors(
    counts: Mapping[str, tuple[int, int]],
    path: str | os.PathLike | None = None,
    kinds: Mapping[str, str] | None = None,
    title: str = "Groups left in each layer",
):
    """Draws one bar for each structure: the share of its groups that is left.

    Args:
        counts: Structure name to `(left, total)`.
        path: Where to write a PNG; `None` writes none.
        kinds: Structure name to kind; kinds have different colours.
        title: The title.

    Returns:
        The matplotlib `Figure`.

    Raises:
        ValueError: If `counts` is empty.
    """
    if not counts:
        raise ValueError("`counts` must hold at least one structure. Received: none")
    kinds = kinds or {}
    names = list(counts)
    order = list(dict.fromkeys(kinds.get(n, "") for n in names))
    figure, axes = _figure(8, 1.2 + 0.34 * len(names), title, x="left (%)")
    for row, name in enumerate(names):
        left, total = counts[name]
        colour = _COLOURS[order.index(kinds.get(name, "")) % len(_COLOURS)]
        axes.barh(row, 100, color=_GONE, height=0.72)
        axes.barh(row, 100 * left / total, color=colour, height=0.72)
        axes.text(102, row, f"{left:,} of {total:,}", va="center", fontsize=9)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    if any(order):
        patch = require("matplotlib.patches", extra="plots").Patch
        handles = [patch(color=_COLOURS[i % 6], label=kind) for i, kind in enumerate(order)]
        # Below the axes: beside a title it overlaps where names are long.
        _legend(figure, "lower center", handles=handles, ncol=len(handles))
    return _written(figure, path)


def rounds(
    counts: Sequence[Mapping[str, int]],
    path: str | os.PathLike | None = None,
    title: str = "Heads left after each round",
):
    """Draws how many groups each layer has left after each round of pruning.

    Args:
        counts: Structure name to groups left, before the first round and after each.
        path: Where to write a PNG; `None` writes none.
        title: The title.

    Returns:
        The matplotlib `Figure`.

    Raises:
        ValueError: If `counts` is empty.
    """
    if not counts:
        raise ValueError("`counts` must hold at least one round. Received: none")
    names = list(counts[0])
    shares = [[row[name] / max(counts[0][name], 1) for row in counts] for name in names]
    width = max(4.0, 1.8 + 0.42 * len(counts))
    figure, axes = _figure(width, 1.2 + 0.36 * len(names), title, x="round")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.25, aspect="auto")
    for row, name in enumerate(names):
        for column, left in enumerate(counts):
            light = "white" if shares[row][column] > 0.75 else "#333333"
            axes.text(column, row, left[name], ha="center", va="center", color=light, fontsize=9)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_xticks(range(len(counts)))
    return _written(figure, path)


def pareto(
    points: Mapping[str, tuple[float, float]] | Sequence,
    path: str | os.PathLike | None = None,
    x: str = "words per second",
    y: str = "BLEU",
    title: str = "Quality against speed",
    least_range: float = 2.0,
):
    """Draws models by speed and quality, and their Pareto front.

    Args:
        points: Label to `(speed, quality)`; higher is better for both.
        path: Where to write a PNG; `None` writes none.
        x: Label of the axis of speed.
        y: Label of the axis of quality.
        title: The title.
        least_range: The least range of the axis of quality, so that differences as small as noise
            look small.

    Returns:
        The matplotlib `Figure`.

    Raises:
        ValueError: If `points` is empty.
    """
    points = dict(points)
    if not points:
        raise ValueError("`points` must hold at least one model. Received: none")
    figure, axes = _figure(7, 4.6, title, x, y, grid=True)
    best = [
        (a, b)
        for a, b in points.values()
        if not any(c >= a and d >= b and (c, d) != (a, b) for c, d in points.values())
    ]
    best.sort()
    axes.plot(*zip(*best, strict=True), color="#999999", lw=1.2, zorder=1, label="front")
    for i, (speed, quality) in enumerate(points.values()):
        axes.scatter(speed, quality, s=55, color=_COLOURS[i % len(_COLOURS)], zorder=2)
    # Neighbours by speed get their labels on different sides, so that few of them collide.
    for i, (label, point) in enumerate(sorted(points.items(), key=lambda item: item[1])):
        right, above = _SIDES[i % len(_SIDES)]
        axes.annotate(
            label,
            point,
            xytext=(7 if right else -7, 7 if above else -14),
            textcoords="offset points",
            ha="left" if right else "right",
            fontsize=9,
        )
    axes.margins(0.18, 0.2)
    low, high = axes.get_ylim()
    missing = max(0.0, least_range - (high - low)) / 2
    axes.set_ylim(low - missing, high + missing)
    return _written(figure, path)


def curves(
    series: Mapping[str, Sequence[tuple[float, float]]],
    path: str | os.PathLike | None = None,
    x: str = "speed",
    y: str = "quality",
    title: str = "Quality against speed",
    reference: float | None = None,
):
    """Draws each method as a line through its measurements at several sizes.

    Args:
        series: Method to points `(x, y)`. A variant, named as a method followed by `+…`, has the
            colour of the method and a dashed line; the legend has a comma for the plus.
        path: Where to write a PNG; `None` writes none.
        x: Label of the horizontal axis.
        y: Label of the vertical axis.
        title: The title.
        reference: The quality of the model that is not pruned, drawn as a horizontal line.

    Returns:
        The matplotlib `Figure`.

    Raises:
        ValueError: If `series` is empty.
    """
    if not series:
        raise ValueError("`series` must hold at least one method. Received: none")
    figure, axes = _figure(8, 4.8, title, x, y, grid=True)
    if reference is not None:
        axes.axhline(reference, color="#999999", lw=1, zorder=0)
    families = list(dict.fromkeys(name.partition("+")[0] for name in series))
    for name, points in series.items():
        family, plus, _ = name.partition("+")
        number = families.index(family)
        axes.plot(
            *zip(*sorted(points), strict=True),
            color=_COLOURS[number % len(_COLOURS)],
            marker=_MARKERS[number // len(_COLOURS) % len(_MARKERS)],
            markerfacecolor="white" if plus else None,
            linestyle="--" if plus else "-",
            label=name.replace("+", ", "),
        )
    _legend(figure, "right upper")
    return _written(figure, path)


def heat_maps(
    tables: Mapping[str, np.ndarray | Sequence[Sequence[float]]],
    names: Sequence[str],
    path: str | os.PathLike | None = None,
    title: str = "Distance",
):
    """Draws square tables of shares side by side, such as the distances between subnetworks.

    Args:
        tables: Title to a table `(names, names)` of numbers from 0 to 1.
        names: Labels of the rows, which are those of the columns too.
        path: Where to write a PNG; `None` writes none.
        title: The title of the figure.

    Returns:
        The matplotlib `Figure`.

    Raises:
        ValueError: If `tables` is empty.
    """
    if not tables:
        raise ValueError("`tables` must hold at least one table. Received: none")
    cell = 0.62
    width = len(tables) * (cell * len(names) + 0.9)
    figure, axes = _figure(width, cell * len(names) + 1.3, title, columns=len(tables))
    largest = max((max(map(max, table)) for table in tables.values()), default=0.0) or 1.0
    for one, (kind, table) in zip(axes, tables.items(), strict=True):
        one.imshow(table, cmap="Blues", vmin=0, vmax=largest)
        for row, values in enumerate(table):
            for column, value in enumerate(values):
                ink = "white" if value > 0.6 * largest else "black"
                text = f"{value:.0%}"
                one.text(column, row, text, ha="center", va="center", color=ink, fontsize=9)
        one.set_xticks(range(len(names)), names)
        one.set_yticks(range(len(names)), names)
        one.tick_params(length=0)
        one.spines[:].set_visible(False)
        one.set_title(kind, fontsize=10)
    return _written(figure, path)


def _figure(
    width: float,
    height: float,
    title: str,
    x: str = "",
    y: str = "",
    grid: bool = False,
    columns: int | None = None,
):
    """A figure in the style of all plots, and its axes: a list of them where there are columns."""
    make = require("matplotlib.figure", extra="plots").Figure
    figure = make(figsize=(width, height), layout="constrained", dpi=140)
    if columns is not None:
        figure.get_layout_engine().set(h_pad=0.1)  # The title is close to those of the columns.
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        return figure, figure.subplots(1, columns, squeeze=False)[0]
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if grid:
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.grid(color="#EEEEEE")
        axes.set_axisbelow(True)
    return figure, axes


def _legend(figure, place, **options):
    figure.legend(loc=f"outside {place}", frameon=False, fontsize=9, **options)


def _written(figure, path):
    if path is not None:
        with atomic_write(path) as temporary:
            figure.savefig(temporary, format="png", bbox_inches="tight")
    return figure
