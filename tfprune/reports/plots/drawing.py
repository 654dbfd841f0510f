"""What all plots have alike: the figure, its legend, labels that do not collide, and the file."""

from __future__ import annotations

import functools
import itertools
import textwrap

import numpy as np

from tfprune.extras import require
from tfprune.files import atomic_write

GREY = "#999999"
# Where a label may stand beside its point: directions, from near to far.
_DIRECTIONS = ((1, 1), (1, -1), (-1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))
_DISTANCES = (6, 16, 30, 46, 64, 84)  # points


def in_own_style(plot):
    """Draws in Matplotlib's default style, whatever the program's is.

    A style with white text, as for dark notebooks, would leave nothing to be seen on white.
    """

    @functools.wraps(plot)
    def drawn(*args, **kwargs):
        style = require("matplotlib.style", extra="plots")
        with style.context("default"):
            return plot(*args, **kwargs)

    return drawn


def new_figure(width, height, title, rows=1, columns=1, **options):
    """A figure on white with a title, and its axes in a list."""
    make = require("matplotlib.figure", extra="plots").Figure
    figure = make(figsize=(width, height), layout="constrained", dpi=140, facecolor="white")
    # Of the figure: the axes are narrow where the labels beside them are long.
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.08)
    axes = figure.subplots(rows, columns, squeeze=False, **options).ravel()
    for one in axes:
        for side in ("top", "right"):
            one.spines[side].set_visible(False)
    return figure, list(axes)


def grid(axes, x="", y=""):
    """Lines behind what is drawn, and the labels of both axes."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.grid(color="#EEEEEE")
    axes.set_axisbelow(True)


def error_bars(axes, points, colour):
    """A vertical bar of one standard error to each side, for points that have a third number."""
    for x, y, error in (point for point in points if len(point) == 3):
        axes.vlines(x, y - error, y + error, color=colour, alpha=0.45, lw=1.4, zorder=1)


def legend(axes, loc="upper left", width=32, **options):
    """A legend with long names broken into lines; beside the axes, unless told otherwise."""
    if loc == "upper left":
        options["bbox_to_anchor"] = (1.0, 1.0)
    handles, labels = axes.get_legend_handles_labels()
    labels = [textwrap.fill(label, width) for label in labels]
    return axes.legend(handles, labels, loc=loc, frameon=False, **{"fontsize": 9, **options})


def label_points(axes, labels):
    """Writes a label beside each point, inside the axes and where it hides least.

    Limits, titles and legends must be there before.

    Args:
        axes: The axes.
        labels: Pairs of label and point, `(x, y)` or longer.
    """
    box = require("matplotlib.transforms", extra="plots").Bbox
    figure = axes.figure
    figure.draw_without_rendering()  # Settles where the axes lie; there they stay.
    figure.set_layout_engine("none")
    pixels = figure.dpi / 72  # of a point
    inside = axes.get_window_extent()
    at = [axes.transData.transform(point[:2]) for _, point in labels]
    taken = [box.from_bounds(x - 8, y - 8, 16, 16) for x, y in at]
    taken += [box.from_bounds(x - 2, y - 2, 4, 4) for x, y in _along_lines(axes)]
    for (label, point), (x, y) in zip(labels, at, strict=True):
        text = axes.annotate(label, point[:2], (0, 0), textcoords="offset points", fontsize=9)
        size = text.get_window_extent()
        text.remove()
        places = []
        for distance, (right, above) in itertools.product(_DISTANCES, _DIRECTIONS):
            dx = (right - 1) * size.width / 2 + right * distance * pixels
            dy = (above - 1) * size.height / 2 + above * distance * pixels
            place = box.from_bounds(x + dx, y + dy, size.width, size.height)
            outside = size.width * size.height - _common(place, inside)
            hidden = 10 * outside + sum(_common(place, other) for other in taken)
            places.append((hidden, distance, place))
        _, distance, place = min(places, key=lambda each: each[:2])
        taken.append(place)
        line = {"arrowstyle": "-", "color": GREY, "lw": 0.7, "shrinkA": 0, "shrinkB": 4}
        text = axes.annotate(
            label,
            point[:2],
            ((place.x0 - x) / pixels, (place.y0 - y) / pixels),
            textcoords="offset points",
            fontsize=9,
            va="bottom",
            arrowprops=line if distance > _DISTANCES[1] else None,
        )
        text.set_in_layout(False)  # Else the axes would shrink.


def _along_lines(axes):
    """Pixels on the lines of the axes, some apart."""
    for line in axes.lines:
        corners = line.get_transform().transform(line.get_xydata())
        for one, other in itertools.pairwise(corners):
            steps = max(int(np.hypot(*(other - one)) / 6), 1)
            yield from np.linspace(one, other, steps + 1)


def _common(one, other):
    """The area that two boxes have in common."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(width, 0) * max(height, 0)


def written(figure, path):
    """Writes a PNG that is white behind all of its text; returns the figure."""
    if path is not None:
        with atomic_write(path) as temporary:
            figure.savefig(
                temporary,
                format="png",
                bbox_inches="tight",
                pad_inches=0.15,
                facecolor="white",
                transparent=False,
            )
    return figure
