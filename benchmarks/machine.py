"""What a measurement ran on."""

import platform
from pathlib import Path


def processor():
    """The name of the processor, as the system gives it."""
    try:
        info = Path("/proc/cpuinfo").read_text()
        return next(
            line.split(":")[1].strip() for line in info.splitlines() if "model name" in line
        )
    except (OSError, StopIteration):
        return platform.processor()
