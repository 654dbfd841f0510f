"""LiteRT files of the runs of a benchmark: where they lie, and how long they take."""

import json
import tempfile
import zipfile

import numpy as np
from kept_runs import keep
from paired import difference

import tfprune
from tfprune.files import atomic_write


def file_of(folder, name, kind):
    """Where the file of a run lies."""
    return folder / f"{name}-{kind.replace(' ', '-')}.tflite"


def zipped(file):
    """How many bytes a file has in an archive."""
    with (
        tempfile.TemporaryFile() as whole,
        zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        archive.write(file, file.name)
        return archive.getinfo(file.name).compress_size


def times(folder, figures, rounds):
    """The time of each file, as a ratio to that of the dense float file; kept for these files.

    Where only the figures of a run are left, and not its files, nothing is timed.

    Args:
        folder: Of the runs of one seed.
        figures: Its runs to their figures; `"files"` has those of each file that runs by its kind.
        rounds: How often each file is timed; 0 for what is known alone.
    """
    files = {
        f"{name} {kind}": file_of(folder, name, kind)
        for name in sorted(figures, key=lambda name: name != "dense")
        for kind, figure in figures[name]["files"].items()
        if "right" in figure
    }
    path = folder / "times.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    there = "dense" in figures and all(file.exists() for file in files.values())
    if rounds and there and list(known.get("ratios", {})) != list(files):
        timed = tfprune.compare_latency(list(files.values()), runs=rounds)
        known = {
            "ratios": dict(zip(files, timed.ratios, strict=True)),
            "ms": timed.latencies[0].median,
        }
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(known))
        keep(path)
    return known


def figures_of_file(figures, timed, name, kind, against):
    """What is reported of the files of a run, of one kind: each figure by seed.

    Args:
        figures: Run to seed to figures, `"files"` among them by their kind.
        timed: Seed to what `times` gives.
        name: The run.
        kind: The kind.
        against: The runs with whose files of this kind they are compared.
    """
    rights = _rights(figures, name, kind)
    pairs = {other: _rights(figures, other, kind) for other in against}
    return {
        "bytes": {seed: f["files"][kind]["bytes"] for seed, f in figures[name].items()},
        "accuracy": {seed: float(np.mean(right)) for seed, right in rights.items()},
        "time": {
            seed: t["ratios"][f"{name} {kind}"]
            for seed, t in timed.items()
            if f"{name} {kind}" in t.get("ratios", {})
        },
        "against": {
            other: difference(rights, theirs)
            for other, theirs in pairs.items()
            if set(rights) & set(theirs)
        },
    }


def _rights(figures, name, kind):
    """Seed to what is right, of the files of one kind; a file that does not run has none."""
    each = {seed: f["files"].get(kind, {}) for seed, f in figures.get(name, {}).items()}
    return {seed: file["right"] for seed, file in each.items() if "right" in file}
