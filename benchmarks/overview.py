"""The picture of README.md: accuracy against speed of MiniLM, pruned by three rules.

    python benchmarks/overview.py

Draws what benchmarks/sentiment.py has written to benchmarks/results/sentiment.json; nothing is
trained or timed. Written to benchmarks/results/overview.png.
"""

import json
import math

from reports import arguments, result, smoke_folder

from tfprune.files import atomic_write
from tfprune.reports.plots import curves

# The runs of benchmarks/sentiment.py, without those that are distilled from a teacher.
RULES = {
    "gradient importance": ("importance-0.3", "importance-0.5", "importance-0.7"),
    "random heads and units": ("random-0.3", "random-0.5", "random-0.7"),
    "whole layers left out": ("layers-4", "layers-3", "layers-2"),
}


def main():
    options = arguments(__doc__).parse_args()
    results = json.loads(result("sentiment.json").read_text())
    if options.smoke:
        smoke_folder()
    models, tested = results["models"], results["sizes"]["test"]
    dense = models["dense"]
    points = {
        rule: [(1 / models[name]["time"], 100 * models[name]["accuracy"]) for name in names]
        for rule, names in RULES.items()
    }
    figure = curves(
        points,
        x="times as fast as the unpruned model (LiteRT, float, one thread)",
        y="accuracy (%)",
        title="MiniLM on movie reviews; bars: one standard error, one seed",
        reference=100 * dense["accuracy"],
    )
    (axes,) = figure.axes
    for line, (rule, names) in zip(axes.lines[1:], RULES.items(), strict=True):
        errors = [100 * _standard_error(models[name]["accuracy"], tested) for name in names]
        speeds, accuracies = zip(*points[rule], strict=True)
        axes.errorbar(
            speeds, accuracies, errors, fmt="none", ecolor=line.get_color(), alpha=0.35, capsize=3
        )
    for name, (speed, accuracy) in zip(
        RULES["gradient importance"], points["gradient importance"], strict=True
    ):
        gone = 1 - models[name]["encoder_weights"] / dense["encoder_weights"]
        axes.annotate(
            f"{gone:.0%} removed",
            (speed, accuracy),
            xytext=(8, 14),
            textcoords="offset points",
            fontsize=9,
        )
    axes.scatter(1, 100 * dense["accuracy"], color="#666666", zorder=3)
    axes.text(1.02, 100 * dense["accuracy"] - 0.35, "not pruned", fontsize=9, color="#666666")
    axes.set_xlim(0.9, 3.4)
    with atomic_write(result("overview.png")) as temporary:
        figure.savefig(temporary, format="png", bbox_inches="tight")


def _standard_error(accuracy, tested):
    return math.sqrt(accuracy * (1 - accuracy) / tested)


if __name__ == "__main__":
    main()
