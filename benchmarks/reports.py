"""What every benchmark has alike: its arguments, what it ran on, and where its results go."""

import argparse
import json
import os
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path

from tfprune.files import atomic_write
from tfprune.measuring.machine import processor

_RESULTS = Path(__file__).parent / "results"
_smoke: Path | None = None


def arguments(script: str) -> argparse.ArgumentParser:
    """A parser of arguments with the first line of a script's documentation, and `--smoke`."""
    parser = argparse.ArgumentParser(description=script.splitlines()[0])
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="seconds on tiny data, to see that the script runs; results go to a new folder",
    )
    return parser


def smoke_folder() -> Path:
    """A new folder for the results and checkpoints of a run of the smallest form."""
    global _smoke
    _smoke = Path(tempfile.mkdtemp(prefix="tfprune-smoke-"))
    print(f"results go to {_smoke}", flush=True)
    return _smoke


def result(name: str) -> Path:
    """The path of a file of results, of this run if it is one of the smallest form."""
    return (_smoke or _RESULTS) / name


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
    for suffix, text in ((".json", json.dumps(results, indent=1) + "\n"), (".md", table)):
        with atomic_write(result(f"{stem}{suffix}")) as temporary:
            temporary.write_text(text)
