"""Tables as text: what reports and callbacks print, and Markdown."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

WIDTH = 80  # Characters: a terminal as it opens, and the output of a notebook's cell.
_LEAST = 28  # What layer paths are given at least, so that they can still be told apart.
_MOST = 36  # What other text is given, where paths are too long to stand beside it.


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    title: str = "",
    text_columns: int = 1,
    paths: bool = False,
) -> str:
    """Lays out a table for a terminal of 80 characters.

    Args:
        columns: The heads of the columns.
        rows: The cells of each row: strings, or integers, which get separators of thousands.
        title: What stands above the table.
        text_columns: How many columns, from the left, hold text: they are aligned to the left and
            broken into lines where they are long. The others are aligned to the right; where they
            do not fit side by side, the rest follows in a second table of the same rows.
        paths: Whether the first column holds paths of layers, one a line: what all of them begin
            with is said once above the table, and long ones are shortened in the middle.

    Returns:
        The table, without a line break at its end.

    Example:

    >>> print(table(["layer", "left"], [["bert/encoder_0", 1024], ["bert/encoder_1", 96]], "Left",
    ...     paths=True))
    Left, all in bert/
    ┏━━━━━━━━━━━┳━━━━━━━┓
    ┃ layer     ┃  left ┃
    ┡━━━━━━━━━━━╇━━━━━━━┩
    │ encoder_0 │ 1,024 │
    │ encoder_1 │    96 │
    └───────────┴───────┘
    """
    cells = [[_cell(value) for value in row] for row in rows]
    if paths:
        cells, start = _without_start(cells)
        title += f"{', all' if title else 'All'} in {start}" if start else ""
    widths = [max(map(_width, each)) for each in zip(columns, *cells, strict=True)]
    parts = [wrapped(title)] if title else []
    for shown in _side_by_side(widths, text_columns):
        some = [[row[i] for i in shown] for row in cells]
        if paths:
            # Other text can be broken into lines.
            others = sum(
                min(widths[i], _MOST) if i < text_columns else widths[i] for i in shown[1:]
            )
            _shorten_first(some, max(WIDTH - 1 - 3 * len(shown) - others, _LEAST))
        parts.append(_laid_out([columns[i] for i in shown], some, text_columns))
    return "\n".join(parts)


def wrapped(text: str) -> str:
    """Breaks a text into lines of at most 80 characters; line breaks that it has stay."""
    broken = [
        textwrap.fill(line, WIDTH, break_on_hyphens=False, drop_whitespace=True)
        for line in text.split("\n")
    ]
    return "\n".join(broken)


def significant(value: float) -> str:
    """A number with three digits that mean something: what a measurement can tell.

    Example:

    >>> [significant(value) for value in (0.01234, 1.5, 123.4, 12345.6)]
    ['0.0123', '1.50', '123', '12,346']
    """
    if 1000 <= abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")


def shortened(names: Sequence[str], width: int) -> list[str]:
    """Leaves out the middle of long names, but so that all that differ still do.

    Args:
        names: The names.
        width: Characters that there is room for.

    Returns:
        The names; as they are, if any way of shortening them makes two alike.

    Example:

    >>> shortened(["transformer_layer_0/feedforward_output_dense", "pooler"], 20)
    ['transfo…output_dense', 'pooler']
    """
    for tail in (0.65, 0.5, 0.8, 0.35, 0.95):
        behind = max(int(tail * (width - 1)), 1)
        short = [
            n if len(n) <= width else f"{n[: width - 1 - behind]}…{n[-behind:]}" for n in names
        ]
        if len(set(short)) == len(set(names)):
            return short
    return list(names)


def common_start(paths: Iterable[str]) -> str:
    """What all paths of layers begin with, up to a slash; nothing for a single path.

    Example:

    >>> common_start(["bert/encoder_0/ffn", "bert/encoder_1/ffn"])
    'bert/'
    """
    parts = [path.split("/")[:-1] for path in set(paths)]
    start = ""
    for level in zip(*parts, strict=False) if len(parts) > 1 else ():
        if len(set(level)) > 1:
            break
        start += f"{level[0]}/"
    return start


def _without_start(cells):
    """The rows without what the paths in their first cells begin with, and that."""
    paths = [path for row in cells for path in row[0].split("\n")]
    start = common_start(path for path in paths if not path.startswith("…"))
    if not start:
        return cells, ""
    return [
        ["\n".join(path.removeprefix(start) for path in row[0].split("\n")), *row[1:]]
        for row in cells
    ], start


def _shorten_first(cells, width):
    lines = [row[0].split("\n") for row in cells]
    short = iter(shortened([line for each in lines for line in each], width))
    for row, each in zip(cells, lines, strict=True):
        row[0] = "\n".join(next(short) for _ in each)


def _side_by_side(widths, text_columns):
    """The numbers of the columns of each table: text in all of them, and others that fit."""
    text = list(range(text_columns))
    room = WIDTH - 1 - sum(3 + min(widths[i], _LEAST) for i in text)
    shown, left = list(text), room
    for i in range(text_columns, len(widths)):
        if 3 + widths[i] > left and len(shown) > text_columns:
            yield shown
            shown, left = list(text), room
        shown.append(i)
        left -= 3 + widths[i]
    yield shown


def _laid_out(columns, cells, text_columns):
    from rich.console import Console
    from rich.table import Table

    laid_out = Table()
    for number, column in enumerate(columns):
        is_text = number < text_columns
        laid_out.add_column(column, justify="left" if is_text else "right", overflow="fold")
    for row in cells:
        laid_out.add_row(*row)
    # Names may hold what rich takes for markup, such as "[UNK]".
    file = io.StringIO()
    console = Console(
        file=file,
        width=WIDTH,
        markup=False,
        emoji=False,
        color_system=None,
        force_jupyter=False,  # It would be shown there at once, and not be in the file.
    )
    console.print(laid_out)
    return file.getvalue().rstrip("\n")


def _width(cell):
    return max(map(len, cell.split("\n")))


def markdown(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Writes a table in Markdown.

    Args:
        columns: The heads of the columns.
        rows: The cells of each row, as in `table`.

    Returns:
        The table, without a line break at its end.

    Example:

    >>> print(markdown(["round", "left"], [["1", 1024]]))
    | round | left |
    |---|---|
    | 1 | 1,024 |
    """
    lines = [columns, *rows]
    written = ["| " + " | ".join(map(_cell, line)) + " |" for line in lines]
    return "\n".join([written[0], "|---" * len(columns) + "|", *written[1:]])


def _cell(value) -> str:
    return value if isinstance(value, str) else f"{value:,}"
