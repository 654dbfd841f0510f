"""Plots of groups: what is left in each layer, and what subnetworks share."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from tfprune.extras import require
from tfprune.reports.plots.drawing import in_own_style, new_figure, written
from tfprune.reports.plots.styles import KINDS, styles
from tfprune.tables import common_start, shortened

_GONE = "#E3E3E3"
_NAME = 44  # Characters of a layer's path.


@in_own_style
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
        title: The title; it may have several lines.

    Returns:
        The matplotlib `Figure`.

    Raises:
        ValueError: If `counts` is empty.
    """
    if not counts:
        raise ValueError("`counts` must hold at least one structure. Received: none")
    kinds = kinds or {}
    order = list(dict.fromkeys(kinds.get(name, "") for name in counts))
    style = styles(order, KINDS)
    labels, title = _layers(counts, title)
    figure, (axes,) = new_figure(8.5, 1.4 + 0.32 * len(counts), title)
    for row, (name, (left, total)) in enumerate(counts.items()):
        axes.barh(row, 100, color=_GONE, height=0.72)
        colour = style[kinds.get(name, "")].colour
        axes.barh(row, 100 * left / total, color=colour, height=0.72)
        axes.text(102, row, f"{left:,} of {total:,}", va="center", fontsize=9)
    axes.set_xlabel("left (%)")
    axes.set_yticks(range(len(labels)), labels, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    if any(order):
        patch = require("matplotlib.patches", extra="plots").Patch
        handles = [patch(color=style[kind].colour, label=kind) for kind in order]
        # Below the axes, where nothing else is.
        figure.legend(
            loc="outside lower center",
            handles=handles,
            ncol=len(handles),
            frameon=False,
            fontsize=9,
        )
    return written(figure, path)


@in_own_style
def rounds(
    counts: Sequence[Mapping[str, int]],
    path: str | os.PathLike | None = None,
    title: str = "Heads left after each round",
):
    """Draws how many groups each layer has left after each round of pruning.

    Args:
        counts: Structure name to groups left, before the first round and after each.
        path: Where to write a PNG; `None` writes none.
        title: The title; it may have several lines.

    Returns:
        The matplotlib `Figure`.

    Raises:
        ValueError: If `counts` is empty.
    """
    if not counts:
        raise ValueError("`counts` must hold at least one round. Received: none")
    names = list(counts[0])
    shares = [[row[name] / max(counts[0][name], 1) for row in counts] for name in names]
    labels, title = _layers(names, title)
    width = max(4.0, 1.8 + 0.42 * len(counts))
    figure, (axes,) = new_figure(width, 1.4 + 0.36 * len(names), title)
    # White is nothing; the darkest is not used, so that the numbers can be read.
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.25, aspect="auto")
    for row, name in enumerate(names):
        for column, left in enumerate(counts):
            light = "white" if shares[row][column] > 0.75 else "#333333"
            axes.text(column, row, left[name], ha="center", va="center", color=light, fontsize=9)
    axes.set_xlabel("round")
    axes.set_yticks(range(len(names)), labels, fontsize=9)
    axes.set_xticks(range(len(counts)))
    return written(figure, path)


@in_own_style
def heat_maps(
    tables: Mapping[str, np.ndarray | Sequence[Sequence[float]]],
    names: Sequence[str],
    path: str | os.PathLike | None = None,
    title: str = "Distance",
):
    """Draws square tables of shares side by side, such as the distances between subnetworks.

    White is 0 and the darkest blue 1 in every picture.

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
    figure, axes = new_figure(width, cell * len(names) + 1.5, title, columns=len(tables))
    for one, (kind, table) in zip(axes, tables.items(), strict=True):
        one.imshow(table, cmap="Blues", vmin=0, vmax=1)
        for row, values in enumerate(table):
            for column, value in enumerate(values):
                ink = "white" if value > 0.6 else "black"
                text = f"{value:.0%}"
                one.text(column, row, text, ha="center", va="center", color=ink, fontsize=9)
        one.set_xticks(range(len(names)), names)
        one.set_yticks(range(len(names)), names)
        one.tick_params(length=0)
        one.spines[:].set_visible(False)
        one.set_title(kind, fontsize=10)
    return written(figure, path)


def _layers(names, title):
    """Paths of layers, short enough to stand beside a picture, and the title with their start."""
    start = common_start(names)
    short = shortened([name.removeprefix(start) for name in names], _NAME)
    return short, f"{title}, all in {start}" if start else title
