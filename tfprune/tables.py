"""Tables as text: what reports and callbacks print, and Markdown."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

_WIDTH = 100  # Characters.


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "", text_columns: int = 1
) -> str:
    """Lays out a table for a terminal.

    Args:
        columns: The heads of the columns.
        rows: The cells of each row: strings, or integers, which get separators of thousands.
        title: What stands above the table.
        text_columns: How many columns, from the left, hold text: they are aligned to the left and
            broken into lines where they are long. The others are aligned to the right.

    Returns:
        The table, without a line break at its end.

    Example:

    >>> print(table(["layer", "left"], [["encoder_0", 1024], ["encoder_1", 96]]))
    ┏━━━━━━━━━━━┳━━━━━━━┓
    ┃ layer     ┃  left ┃
    ┡━━━━━━━━━━━╇━━━━━━━┩
    │ encoder_0 │ 1,024 │
    │ encoder_1 │    96 │
    └───────────┴───────┘
    """
    from rich.console import Console
    from rich.table import Table

    laid_out = Table(title=title or None, title_justify="left")
    for number, column in enumerate(columns):
        is_text = number < text_columns
        laid_out.add_column(column, justify="left" if is_text else "right", overflow="fold")
    for row in rows:
        laid_out.add_row(*map(_cell, row))
    # Names may hold what rich takes for markup, such as "[UNK]".
    file = io.StringIO()
    console = Console(file=file, width=_WIDTH, markup=False, emoji=False, color_system=None)
    console.print(laid_out)
    return file.getvalue().rstrip("\n")


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
