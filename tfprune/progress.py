"""Progress of what takes seconds or minutes, on terminals and in notebooks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

Step = Callable[..., None]

_LEAST_SECONDS = 0.1  # Between two drawings of the same text.

# What is on the screen, to which work inside other work adds a line.
_shown: ContextVar[Progress | None] = ContextVar("shown", default=None)


@contextmanager
def progress(what: str, total: int, verbose: int) -> Iterator[Step]:
    """Shows a bar where somebody may look: on a terminal, or in a notebook with ipywidgets.

    Inside another such context the bar is one more line, until the context ends. It is drawn in
    the calls of the function that is given, and at no other time: no thread draws it while
    something is timed.

    Args:
        what: What is done, such as `"latency table"`.
        total: How many steps there are.
        verbose: 0 shows nothing.

    Yields:
        A function that is called with a text as each step begins, or with a text and how many steps
        are done, which need be no whole number. Steps of the same text, and those that say how many
        are done, are drawn ten times a second at most.

    Example:

    >>> with progress("counting", 2, verbose=0) as step:
    ...     for number in (1, 2):
    ...         step(f"to {number}")
    """
    outer = _shown.get()
    display = (outer or _display()) if verbose else None
    if display is None:
        yield lambda text, done=None: None
        return
    task = display.add_task(what, total=total)
    last, drawn = "", 0.0

    def step(text: str, done: float | None = None) -> None:
        nonlocal last, drawn
        description = f"{what}: {text}" if text else what
        if done is None:
            display.update(task, description=description, advance=bool(last))
        else:
            display.update(task, description=description, completed=done)
        if (done is None and text != last) or time.monotonic() - drawn >= _LEAST_SECONDS:
            display.refresh()
            drawn = time.monotonic()
        last = text

    if outer is not None:
        try:
            yield step
        finally:
            display.remove_task(task)
        return
    token = _shown.set(display)
    try:
        with display:
            yield step
            display.update(task, completed=total, description=what)
    finally:
        _shown.reset(token)


@contextmanager
def stages() -> Iterator[Callable[..., None]]:
    """Shows one bar for each stage of long work, as `progress` does.

    Where nobody looks, it prints a line for what is worth one instead.

    Yields:
        A function of the stage; `done`, its share that is done, if that is known; `detail`, a text;
        and `note`, whether that is worth a line. A call with another stage ends the one before.

    Example:

    >>> with stages() as tick:
    ...     tick("Counting", 0.5, "to 1", note=False)
    ...     tick("Counting", 1.0, "to 2")
    Counting                       to 2
    """
    looks = _display() is not None
    present, step = None, None
    with ExitStack() as bar:

        def tick(stage: str, done: float | None = None, detail: str = "", note: bool = True):
            nonlocal present, step
            if note and not looks:
                print(f"{stage:<30} {detail}".rstrip(), flush=True)
            if stage != present or step is None:
                bar.close()
                present, step = stage, bar.enter_context(progress(stage, 1, verbose=1))
            step(detail, done or 0)

        yield tick


def _display() -> Progress | None:
    """`None` where nobody looks; rich would write a last line there, or warn."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console()
    if not console.is_terminal and not (console.is_jupyter and find_spec("ipywidgets")):
        return None
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, auto_refresh=False)
