"""What native code writes to standard error, where it cannot be told to be silent."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

LEVEL = "TF_CPP_MIN_LOG_LEVEL"

# Of TensorFlow ("I0000 00:00:1.2 34 port.cc:153] oneDNN …") and of LiteRT ("INFO: Created …").
_MESSAGE = re.compile(rb"([IWE])\d{4} \d\d:\d\d:\d+\.\d+ +\d+ \S+:\d+\] |(INFO|WARNING|ERROR): ")
# Lines without a level: before TensorFlow's log has begun; of its converter for int8; and of one
# that fails, whose error says the same.
_NOTES = (
    b"WARNING: All log messages before absl::InitializeLog()",
    b"fully_quantize: ",
    b"loc(callsite(",
    b"error: failed while converting",
    b"error: Lowering tensor list ops is failed",
    b"Some ops are not supported by the native TFLite runtime",
    b"TF Select ops: ",
    b"Details:",
    b"\ttf.",
)

# Standard error is the process's: while it is redirected, neither another thread nor a call inside
# may do it again.
_redirecting = threading.Lock()


@contextmanager
def filtered() -> Iterator[None]:
    """Applies `TF_CPP_MIN_LOG_LEVEL`, 3 by default, to messages written without regard to it.

    Also a decorator of functions that let native code work. TensorFlow reads that variable only
    after its libraries have started, and they write as they start; where it was imported first, it
    has not read it at all, and neither does LiteRT. So standard error goes to a temporary file
    inside the context, and at its end everything but messages below the level is passed on. With
    level 0 nothing is held back; level 1, which JAX sets by itself, counts as not set. TensorFlow's
    Python logger, which tells in notebooks what is written to folders that nobody sees, tells
    warnings alone.
    """
    level = os.environ.get(LEVEL, "3")
    # JAX sets 1 as it is imported, which others do where it is installed: nobody asked for that.
    level = "3" if level == "1" else level
    with ExitStack() as undo:
        if level in ("2", "3") and _redirecting.acquire(blocking=False):
            undo.callback(_redirecting.release)
            undo.enter_context(_held_back(int(level)))
            undo.enter_context(_warnings_alone(logging.getLogger("tensorflow")))
        yield


@contextmanager
def _warnings_alone(logger: logging.Logger) -> Iterator[None]:
    before = logger.level
    logger.setLevel(max(logging.WARNING, logger.getEffectiveLevel()))
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _held_back(level: int) -> Iterator[None]:
    try:
        held = tempfile.NamedTemporaryFile()  # noqa: SIM115  # closed below
        original = os.dup(2)
    except OSError:  # There is no place for temporary files, or no standard error.
        yield
        return
    with held, shown_if_killed(held.name):
        _redirect(held.fileno())
        try:
            yield
        finally:
            _redirect(original)
            os.close(original)
            held.seek(0)
            for line in held:
                if not _is_below(level, line):
                    os.write(2, line)


@contextmanager
def shown_if_killed(path: str | os.PathLike) -> Iterator[None]:
    """Shows the end of a file on standard error if the process dies inside the context.

    Native code that aborts says why on standard error. Where that is redirected to a file, nothing
    in the process is left to show it. So a small process of its own waits for the end.
    """
    show = 'read -r line || tail -n 30 "$0" >&2'
    try:
        watcher = subprocess.Popen(
            ["/bin/sh", "-c", show, os.fspath(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is not for it.
        )
    except OSError:  # There is no shell.
        yield
        return
    try:
        yield
    finally:
        watcher.communicate(b"still alive\n")


def _redirect(file: int) -> None:
    if sys.stderr is not None:
        sys.stderr.flush()
    os.dup2(file, 2)


def _is_below(level: int, line: bytes) -> bool:
    if line.startswith(_NOTES):
        return True
    found = _MESSAGE.match(line)
    return found is not None and b"IWE".index(found[0][:1]) < level
