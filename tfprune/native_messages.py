"""What native code writes to standard error, where it cannot be told to be silent."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

LEVEL = "TF_CPP_MIN_LOG_LEVEL"

# Of TensorFlow ("I0000 00:00:1.2 34 port.cc:153] oneDNN …") and of LiteRT ("INFO: Created …").
_MESSAGE = re.compile(rb"([IWE])\d{4} \d\d:\d\d:\d+\.\d+ +\d+ \S+:\d+\] |(INFO|WARNING|ERROR): ")
_BEFORE_ABSL = b"WARNING: All log messages before absl::InitializeLog()"


@contextmanager
def filtered() -> Iterator[None]:
    """Applies `TF_CPP_MIN_LOG_LEVEL` to messages that are written without regard to it.

    TensorFlow reads that variable only after its libraries have started, and they write as they
    start; LiteRT does not read it at all. So standard error goes to a temporary file inside the
    context, and at its end everything but messages below the level is passed on. With level 0,
    nothing is held back.
    """
    level = os.environ.get(LEVEL, "3")
    if level not in ("1", "2", "3"):
        yield
        return
    try:
        original = os.dup(2)
    except OSError:  # The process has no standard error.
        yield
        return
    try:
        with tempfile.TemporaryFile() as held:
            _redirect(held.fileno())
            try:
                yield
            finally:
                _redirect(original)
                held.seek(0)
                for line in held:
                    if not _is_below(int(level), line):
                        os.write(2, line)
    finally:
        os.close(original)


def _redirect(file: int) -> None:
    if sys.stderr is not None:
        sys.stderr.flush()
    os.dup2(file, 2)


def _is_below(level: int, line: bytes) -> bool:
    if line.startswith(_BEFORE_ABSL):
        return True
    found = _MESSAGE.match(line)
    return bool(found) and b"IWE".index(found[0][:1]) < level
