"""What each run gave for each test example, kept in results/runs.

Weights take gigabytes and stay in the folder of checkpoints, which may be lost. With what is kept
here a report can be written again, and a benchmark goes on where it was stopped, without training
the finished runs once more.
"""

import gzip
import json
from pathlib import Path

from tfprune.files import atomic_write

HERE = Path(__file__).parent.absolute()
CHECKPOINTS, KEPT = HERE / "checkpoints", HERE / "results" / "runs"
DIGITS = 5  # Behind the point; errors of means are in the third.


def keep(path):
    """Keeps the figures of a run.

    Args:
        path: Their file, such as `checkpoints/half_encoder/4-epochs-seed-0/dense.json`. Where it is
            not a file in `checkpoints`, as with `--smoke`, nothing is kept.
    """
    path = path.absolute()
    if CHECKPOINTS not in path.parents:
        return
    figures = json.dumps(rounded(json.loads(path.read_text())), separators=(",", ":"))
    with atomic_write(kept_file(path)) as temporary:
        temporary.write_bytes(gzip.compress(figures.encode(), mtime=0))  # The same bytes each time.


def restore(folder):
    """Writes the figures that are kept of a benchmark to where its runs look for them.

    Args:
        folder: Of all seeds, such as `checkpoints/half_encoder`. What is there stays.
    """
    folder = folder.absolute()
    for kept in sorted((KEPT / folder.name).glob("*-seed-*/*.json.gz")):
        path = folder / kept.parent.name / kept.name.removesuffix(".gz")
        if CHECKPOINTS in path.parents and not path.exists():
            with atomic_write(path) as temporary:
                temporary.write_bytes(gzip.decompress(kept.read_bytes()))


def kept_file(path):
    """Where the figures of `path` are kept."""
    seed = path.parent
    return KEPT / seed.parent.name / seed.name / f"{path.name}.gz"


def rounded(figures):
    """With fewer digits, wherever there is a float."""
    if isinstance(figures, dict):
        return {key: rounded(value) for key, value in figures.items()}
    if isinstance(figures, list):
        return [rounded(value) for value in figures]
    return round(figures, DIGITS) if isinstance(figures, float) else figures
