"""The machine that something is timed on, for tables and pictures."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Flags of processors to what they are called, the best for products of int8 first: on these the
# time of an int8 file depends most.
_INSTRUCTIONS = {
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX VNNI",
    "avx512f": "AVX-512",
    "avx2": "AVX2",
    "i8mm": "I8MM",
    "asimddp": "SDOT",
    "asimd": "NEON",
}


def processor() -> str:
    """The name of the processor, as the system gives it, with its instructions for int8."""
    try:
        return processor_of(Path("/proc/cpuinfo").read_text())
    except (OSError, StopIteration):
        return platform.processor()


def processor_of(info: str) -> str:
    """The name and the instructions of the processor that `/proc/cpuinfo` describes.

    Args:
        info: Its text.

    Raises:
        StopIteration: If it has no name.

    Example:

    >>> processor_of("model name : AMD EPYC\\nflags : fpu avx avx2")
    'AMD EPYC with AVX2'
    """
    lines = [line.partition(":") for line in info.splitlines()]
    name = next(value.strip() for key, _, value in lines if key.strip() == "model name")
    flags = {f for key, _, v in lines if key.strip() in ("flags", "Features") for f in v.split()}
    best = next((called for flag, called in _INSTRUCTIONS.items() if flag in flags), None)
    return f"{name} with {best}" if best else name


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
