"""Models pruned without training: what benchmarks/repair.py has measured."""

import numpy as np
from without_training import REPAIRS, name_of

from tfprune.reports.plots import small_multiples

CRITERIA = ("magnitude", "gradient_importance", "activation", "reconstruction")
SPARSITIES = (0.3, 0.5, 0.7, 0.8)
# Repairs as docs/results/repair.md calls them.
HEADINGS = {
    "nothing": "not repaired",
    "bias": "means into the biases",
    "least squares": "fitted by least squares",
}


def by_repair(what, y, scale):
    """Draws quality against the share removed, an axes for each repair.

    Args:
        what: Model and data, for the title.
        y: What is measured.
        scale: What it is multiplied by.
    """

    def draw(results, path):
        models = results["models"]

        def quality(row):
            return scale * np.mean(list(row["mean"].values()))

        panels = {}
        for repair in REPAIRS:
            for criterion in CRITERIA:
                names = {s: name_of(criterion, repair, s) for s in SPARSITIES}
                points = [
                    (100 * s, quality(models[name]), *_error(models[name], scale))
                    for s, name in names.items()
                    if name in models
                ]
                if points:
                    lines = panels.setdefault(HEADINGS[repair], {})
                    lines[criterion.replace("_", " ")] = points
        if not panels:
            return
        errors = [row for row in models.values() if _error(row, scale)]
        bars = "; bars: standard error of the difference to dense" if errors else ""
        seeds = len(models["dense"]["mean"])
        small_multiples(
            panels,
            path,
            x="weights of heads and units removed (%)",
            y=y,
            title=f"{what}, pruned without training\n"
            f"{results['machine']['processor']}; {results['sizes']['test']:,} test sentences, "
            f"{seeds} seed{'s' * (seeds > 1)}{bars}",
            references=dict.fromkeys(panels.keys(), quality(models["dense"])),
        )

    return draw


minilm = by_repair("Three layers of MiniLM on movie reviews", "accuracy (%)", 100)
translator = by_repair("English-German student, LibreOffice help", "cross-entropy of a word", 1)


def _error(row, scale):
    """The standard error of the difference to dense, where there are examples or seeds for it."""
    _, error, _ = row.get("against", {}).get("dense", (0, None, 0))
    return () if error is None else (scale * error,)
