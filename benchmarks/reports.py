"""What every benchmark reports alike: what it ran on, and where its results go."""

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

from tfprune.files import whole

RESULTS = Path(__file__).parent / "results"


def about(script: str, *packages: str) -> dict:
    """The head of every results file: script, versions of packages, machine."""
    return {
        "script": f"benchmarks/{Path(script).name}",
        "versions": {package: version(package) for package in ("keras", "tensorflow", *packages)},
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
    }


def in_words(results: dict) -> str:
    """The machine and the versions of a results file, in a line."""
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    machine = results["machine"]
    cores = f", {machine['cores']} cores" if "cores" in machine else ""
    return f"{machine['processor']}{cores}; {versions}"


def write(stem: str, results: dict, table: str) -> None:
    """Keeps results as JSON, and as a table in Markdown beside it."""
    RESULTS.mkdir(exist_ok=True)
    for suffix, text in ((".json", json.dumps(results, indent=1) + "\n"), (".md", table)):
        with whole(RESULTS / f"{stem}{suffix}") as fresh:
            fresh.write_text(text)


def processor() -> str:
    """The name of the processor, as the system gives it."""
    try:
        info = Path("/proc/cpuinfo").read_text()
        return next(
            line.split(":")[1].strip() for line in info.splitlines() if "model name" in line
        )
    except (OSError, StopIteration):
        return platform.processor()
