"""Plots of quality: against speed, size or what else it is traded for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from tfprune.reports.plots.drawing import (
    GREY,
    error_bars,
    grid,
    in_own_style,
    label_points,
    legend,
    new_figure,
    written,
)
from tfprune.reports.plots.styles import styles

# Line and marker of a method, and of its variants in their order.
_LINES = (
    ("-", "full"),
    ("--", "none"),
    (":", "left"),
    ("-.", "bottom"),
    ("--", "right"),
    (":", "top"),
)


@in_own_style
def pareto(
    points: Mapping[str, Sequence[float]] | Sequence,
    path: str | os.PathLike | None = None,
    x: str = "words per second",
    y: str = "BLEU",
    title: str = "Quality against speed",
    least_range: float = 2.0,
):
    """Draws models by speed and quality, and their Pareto front.

    Args:
        points: Label to `(speed, quality)` or `(speed, quality, standard error)`; higher is better
            for both. The error is drawn as a bar.
        path: Where to write a PNG; `None` writes none.
        x: Label of the axis of speed.
        y: Label of the axis of quality.
        title: The title; it may have several lines.
        least_range: The least range of the axis of quality, so that differences as small as noise
            look small.

    Returns:
        The matplotlib `Figure`.

    Raises:
        ValueError: If `points` is empty, or one has neither two nor three numbers.
    """
    points = dict(points)
    if not points:
        raise ValueError("`points` must hold at least one model. Received: none")
    _check_numbers("points", points.items())
    style = styles(points)
    figure, (axes,) = new_figure(7, 4.8, title)
    grid(axes, x, y)
    best = [
        (a, b)
        for a, b, *_ in points.values()
        if not any(c >= a and d >= b and (c, d) != (a, b) for c, d, *_ in points.values())
    ]
    best.sort()
    axes.plot(*zip(*best, strict=True), color=GREY, lw=1.2, zorder=1, label="front")
    for label, point in points.items():
        colour, marker = style[label]
        axes.scatter(*point[:2], s=55, color=colour, marker=marker, zorder=3)
        error_bars(axes, [point], colour)
    axes.margins(0.12, 0.2)
    low, high = axes.get_ylim()
    missing = max(0.0, least_range - (high - low)) / 2
    axes.set_ylim(low - missing, high + missing)
    label_points(axes, sorted(points.items(), key=lambda item: tuple(item[1])))
    return written(figure, path)


@in_own_style
def curves(
    series: Mapping[str, Sequence[Sequence[float]]],
    path: str | os.PathLike | None = None,
    x: str = "speed",
    y: str = "quality",
    title: str = "Quality against speed",
    reference: float | None = None,
):
    """Draws each method as a line through its measurements at several sizes.

    Args:
        series: Method to points `(x, y)` or `(x, y, standard error)`; the error is drawn as a bar.
            A variant, named as a method followed by `+…`, has the colour of the method and a
            broken line; the legend has a comma for the plus.
        path: Where to write a PNG; `None` writes none.
        x: Label of the horizontal axis.
        y: Label of the vertical axis.
        title: The title; it may have several lines.
        reference: The quality of the model that is not pruned, drawn as a horizontal line.

    Returns:
        The matplotlib `Figure`.

    Raises:
        ValueError: If `series` is empty, or a point has neither two nor three numbers.

    Example:

    >>> figure = curves({"magnitude": [(1, 90.2, 0.5), (2, 88.1, 0.6)],
    ...     "magnitude+with teacher": [(1, 90.4, 0.5), (2, 88.9, 0.6)]}, reference=91.0)
    """
    if not series:
        raise ValueError("`series` must hold at least one method. Received: none")
    figure, (axes,) = new_figure(9, 4.8, title)
    _draw_curves(axes, series, _lines(series), reference)
    grid(axes, x, y)
    legend(axes)
    return written(figure, path)


@in_own_style
def small_multiples(
    panels: Mapping[str, Mapping[str, Sequence[Sequence[float]]]],
    path: str | os.PathLike | None = None,
    x: str = "speed",
    y: str = "quality",
    title: str = "Quality against speed",
    references: Mapping[str, float] | None = None,
    columns: int = 3,
    same_scale: bool = True,
):
    """Draws curves in several axes side by side, where one would hold too many lines.

    Args:
        panels: Title of an axes to its `series`, as `curves` takes them. A method has the same
            colour and marker in all of them.
        path: Where to write a PNG; `None` writes none.
        x: Label of the horizontal axes.
        y: Label of the vertical axes.
        title: The title of the figure; it may have several lines.
        references: Title of an axes to the quality of the model that is not pruned.
        columns: How many axes stand side by side.
        same_scale: Whether all have the same scales.

    Returns:
        The matplotlib `Figure`.

    Raises:
        ValueError: If `panels` is empty or one has no series, or a point has neither two nor three
            numbers.
    """
    if not panels or not all(panels.values()):
        raise ValueError(
            f"`panels` must hold at least one method in each. Received: {dict(panels)}"
        )
    references = references or {}
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = new_figure(
        3.7 * columns, 3.3 * rows + 0.6, title, rows, columns, sharex=same_scale, sharey=same_scale
    )
    lines = _lines(name for series in panels.values() for name in series)
    alike = len({tuple(series) for series in panels.values()}) == 1
    for number, (one, (heading, series)) in enumerate(zip(axes, panels.items(), strict=False)):
        _draw_curves(one, series, lines, references.get(heading))
        below = number + columns >= len(panels)
        grid(one, x if below else "", y if number % columns == 0 else "")
        one.tick_params(labelbottom=below or not same_scale)
        one.set_title(heading, fontsize=10, loc="left")
        if not alike:
            legend(one, "best", 48, fontsize=8).set_in_layout(False)
    for one in axes[len(panels) :]:
        one.remove()
    if alike:
        handles, labels = axes[0].get_legend_handles_labels()
        place = "outside lower center"
        figure.legend(handles, labels, loc=place, ncol=5, frameon=False, fontsize=9)
    return written(figure, path)


def _lines(names):
    """How the line of each method looks: its style, its stroke and how its marker is filled.

    Variants look as the method does but for stroke and marker, and so do methods of one style.
    """
    names = list(dict.fromkeys(names))
    of_family = styles(name.partition("+")[0] for name in names)
    found, drawn = {}, dict.fromkeys(of_family.values(), 0)
    # Methods come before their variants, whose first is dashed even where the method is missing.
    for name in sorted(names, key=lambda name: "+" in name):
        family, plus, _ = name.partition("+")
        style = of_family[family]
        number = max(drawn[style], 1) if plus else drawn[style]
        drawn[style] = number + 1
        found[name] = style, *_LINES[number % len(_LINES)]
    return found


def _draw_curves(axes, series, lines, reference):
    if reference is not None:
        # A point of the dense model says as much.
        label = None if "dense" in series else "not pruned"
        axes.axhline(reference, color=GREY, lw=1, zorder=0, label=label)
    for name, points in series.items():
        _check_numbers("series", [(name, point) for point in points])
        (colour, marker), stroke, fill = lines[name]
        points = sorted(points)
        axes.plot(
            *zip(*(point[:2] for point in points), strict=True),
            color=colour,
            marker=marker,
            markersize=9 if marker == "*" else 6,
            fillstyle=fill,
            markerfacecolor="white" if fill == "none" else None,
            markerfacecoloralt="white",
            linestyle=stroke,
            label=name.replace("+", ", "),
        )
        error_bars(axes, points, colour)


def _check_numbers(argument, points):
    for name, point in points:
        if len(point) not in (2, 3):
            raise ValueError(
                f"`{argument}` must hold points of two numbers, or of three with the standard "
                f"error. Received for {name!r}: {point}"
            )
