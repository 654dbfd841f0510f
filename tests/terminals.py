"""A standard output that says it is a terminal."""

import io
import sys
from contextlib import contextmanager

import pytest


class Terminal(io.StringIO):
    def isatty(self):
        return True


@contextmanager
def terminal(written=lambda: None):
    """Yields standard output, which is a terminal inside; `written` is called at each write."""

    class Watched(Terminal):
        def write(self, text):
            written()
            return super().write(text)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            patch.delenv(name, raising=False)
        patch.setenv("TERM", "xterm")
        patch.setenv("COLUMNS", "100")
        # Not in a fixture: pytest sets its own standard output anew after those.
        patch.setattr(sys, "stdout", Watched())
        yield sys.stdout
