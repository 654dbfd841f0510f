"""Pictures: what is left in each layer, and quality against speed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from tfprune.files import whole

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
    """Draws one bar for each structure: what is left out of what there was.

    Args:
        counts: Structure name to `(left, total)`.
        path: Where to write a PNG; `None` writes none.
        kinds: Structure name to kind, which gives the colour.
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
    figure, axes = _figure(8, 1.2 + 0.34 * len(names))
    for row, name in enumerate(names):
        left, total = counts[name]
        colour = _COLOURS[order.index(kinds.get(name, "")) % len(_COLOURS)]
        axes.barh(row, 100, color=_GONE, height=0.72)
        axes.barh(row, 100 * left / total, color=colour, height=0.72)
        axes.text(102, row, f"{left:,} of {total:,}", va="center", fontsize=9)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("left (%)")
    axes.set_title(title, loc="left", fontsize=11)
    if any(order):
        from matplotlib.patches import Patch

        handles = [Patch(color=_COLOURS[i % 6], label=kind) for i, kind in enumerate(order)]
        # Under the picture: beside a title it collides where names are long.
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncol=len(handles),
            frameon=False,
            fontsize=9,
        )
    return _written(figure, path)


def rounds(
    counts: Sequence[Mapping[str, int]],
    path: str | os.PathLike | None = None,
    title: str = "Heads left after each round",
):
    """Draws how the groups of each layer become fewer from round to round.

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
    figure, axes = _figure(max(4.0, 1.8 + 0.42 * len(counts)), 1.2 + 0.36 * len(names))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.25, aspect="auto")
    for row, name in enumerate(names):
        for column, left in enumerate(counts):
            light = "white" if shares[row][column] > 0.75 else "#333333"
            axes.text(column, row, left[name], ha="center", va="center", color=light, fontsize=9)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_xticks(range(len(counts)))
    axes.set_xlabel("round")
    axes.set_title(title, loc="left", fontsize=11)
    return _written(figure, path)


def pareto(
    points: Mapping[str, tuple[float, float]] | Sequence,
    path: str | os.PathLike | None = None,
    x: str = "words per second",
    y: str = "BLEU",
    title: str = "Quality against speed",
    least_range: float = 2.0,
):
    """Draws models by speed and quality, and the front that no model beats on both.

    Args:
        points: Label to `(speed, quality)`; more is better for both.
        path: Where to write a PNG; `None` writes none.
        x: What speed is called.
        y: What quality is called.
        title: The title.
        least_range: The shortest range of the quality axis, so that noise looks like noise.

    Returns:
        The matplotlib `Figure`.

    Raises:
        ValueError: If `points` is empty.
    """
    points = dict(points)
    if not points:
        raise ValueError("`points` must hold at least one model. Received: none")
    figure, axes = _figure(7, 4.6)
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
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(color="#EEEEEE")
    axes.set_axisbelow(True)
    return _written(figure, path)


def curves(
    series: Mapping[str, Sequence[tuple[float, float]]],
    path: str | os.PathLike | None = None,
    x: str = "speed",
    y: str = "quality",
    title: str = "Quality against speed",
    reference: float | None = None,
):
    """Draws methods as lines through the sizes that they were tried at.

    Args:
        series: Method to points `(x, y)`; a method whose name ends in `+…` has the colour of the
            one without, and a dashed line.
        path: Where to write a PNG; `None` writes none.
        x: What is on the horizontal axis.
        y: What is on the vertical axis.
        title: The title.
        reference: The quality of the whole model, a line across.

    Returns:
        The matplotlib `Figure`.

    Raises:
        ValueError: If `series` is empty.
    """
    if not series:
        raise ValueError("`series` must hold at least one method. Received: none")
    figure, axes = _figure(8, 4.8)
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
            label=name,
        )
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(color="#EEEEEE")
    axes.set_axisbelow(True)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return _written(figure, path)


def heat_maps(
    tables: Mapping[str, Sequence[Sequence[float]]],
    names: Sequence[str],
    path: str | os.PathLike | None = None,
    title: str = "Distance",
):
    """Draws square tables of shares side by side, such as how far languages are from one another.

    Args:
        tables: Title to a table `(names, names)` of numbers from 0 to 1.
        names: What rows and columns stand for.
        path: Where to write a PNG; `None` writes none.
        title: The title over all.

    Returns:
        The matplotlib `Figure`.

    Raises:
        ValueError: If `tables` is empty.
    """
    if not tables:
        raise ValueError("`tables` must hold at least one table. Received: none")
    cell = 0.62
    width = len(tables) * (cell * len(names) + 0.9)
    figure, axes = _figure(width, cell * len(names) + 1.3, columns=len(tables))
    figure.get_layout_engine().set(h_pad=0.1)  # The title over all is close to the others.
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
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return _written(figure, path)


def _figure(width: float, height: float, columns: int | None = None):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=140)
    if columns is not None:
        return figure, figure.subplots(1, columns, squeeze=False)[0]
    axes = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _written(figure, path):
    if path is not None:
        with whole(path) as fresh:
            figure.savefig(fresh, format="png", bbox_inches="tight")
    return figure
