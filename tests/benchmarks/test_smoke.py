"""Every benchmark runs in its smallest form, and leaves the results of the repository alone."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(
    path.stem for path in BENCHMARKS.glob("*.py") if 'if __name__ == "__main__"' in path.read_text()
)

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow_only]


def kept():
    files = (path for path in (BENCHMARKS / "results").rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files}


def test_there_are_scripts():
    assert {"overview", "sentiment", "translation"} <= set(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_it_runs(script, tmp_path):
    before = kept()
    done = subprocess.run(
        [sys.executable, BENCHMARKS / f"{script}.py", "--smoke"],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "TMPDIR": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert kept() == before
    folder = Path(re.search("results go to (.*)", done.stdout)[1])
    written = [path for path in folder.iterdir() if path.suffix in (".json", ".png")]
    assert written
    for path in written:
        if path.suffix == ".json" and path.with_suffix(".md").exists():
            assert json.loads(path.read_text())["script"] == f"benchmarks/{script}.py"
