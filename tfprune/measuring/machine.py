"""The machine that something is timed on, for tables and pictures."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def processor() -> str:
    """The name of the processor, as the system gives it."""
    try:
        info = Path("/proc/cpuinfo").read_text()
        return next(
            line.split(":")[1].strip() for line in info.splitlines() if "model name" in line
        )
    except (OSError, StopIteration):
        return platform.processor()


def timed_on(machine: Mapping[str, Any], litert: str) -> str:
    """What LiteRT was timed on, in a line.

    Args:
        machine: `processor`, and `cores` if they are known.
        litert: The version of `ai-edge-litert`.

    Example:

    >>> timed_on({"processor": "AMD EPYC", "cores": 2}, "2.3.0")
    'AMD EPYC, 2 cores; LiteRT 2.3.0, one thread'
    """
    cores = f", {machine['cores']} cores" if "cores" in machine else ""
    return f"{machine['processor']}{cores}; LiteRT {litert}, one thread"
