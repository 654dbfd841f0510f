"""Help topics in four languages: what benchmarks/multilingual.py has measured."""

import numpy as np

from drawings.words import machine, standard_error
from tfprune.reports.plots import heat_maps, small_multiples

IMPORTANCE, GATES, DYNAMIC = "gradient importance", "hard concrete gates", "dynamic sparsity"
LONGER, EACH = "+eight epochs", "+a network for each"
# Axes to the lines in it, and the runs of each; of a run with all sizes, all of them.
PANELS = {
    "One network for all": {
        IMPORTANCE: ("dense", "importance-0.75", "importance-0.5", "importance-0.25"),
        f"{IMPORTANCE}{LONGER}": ("dense-longer", "importance-0.5-longer"),
        DYNAMIC: ("dynamic",),
        f"{DYNAMIC}{LONGER}": ("dynamic-longer",),
    },
    "Gradient importance": {
        IMPORTANCE: ("dense", "importance-0.75", "importance-0.5", "importance-0.25"),
        f"{IMPORTANCE}{EACH}": ("importance-0.5-each",),
        f"{IMPORTANCE}+with teacher": ("importance-0.5+teacher",),
        f"{IMPORTANCE}+smaller embeddings": ("small-embeddings-0.5",),
    },
    "Hard concrete gates": {
        GATES: ("l0-0.5",),
        f"{GATES}{EACH}": ("l0-0.5-each",),
        f"{GATES}+driven apart": ("l0-0.5-each-diverse",),
        f"{GATES}+driven apart, with teacher": ("l0-0.5-each-diverse+teacher",),
    },
    "All sizes at once": {
        DYNAMIC: ("dynamic",),
        f"{DYNAMIC}{EACH}": ("dynamic-each",),
        f"{DYNAMIC}+gates trained too": ("dynamic-each-trained",),
    },
}
SHARING = {
    "importance-0.5-each": "gradient importance",
    "l0-0.5-each-diverse": "hard concrete gates, driven apart by families",
}


def mean(row):
    """Accuracy over languages."""
    return float(np.mean(list(row["accuracy"].values())))


def by_size(results, path):
    """Accuracy against speed, axes by what is compared."""
    rows, tested = results["models"], sum(results["sizes"]["test_each"].values())

    def points(runs):
        of_runs = [row for label, row in rows.items() if label.partition(" at ")[0] in runs]
        return [
            (1 / row["time"], 100 * mean(row), 100 * standard_error(mean(row), tested))
            for row in of_runs
        ]

    panels = {
        heading: {name: found for name, runs in lines.items() if (found := points(runs))}
        for heading, lines in PANELS.items()
    }
    panels = {heading: lines for heading, lines in panels.items() if lines}
    if panels:
        small_multiples(
            panels,
            path,
            x="times as fast as the unpruned model",
            y="accuracy, mean of languages (%)",
            title=f"MiniLM on help topics in four languages; {tested:,} test paragraphs\n"
            f"{machine(results)}, float, batch of one; bars: one standard error, one seed",
            references=dict.fromkeys(panels, 100 * mean(rows["dense"])),
            columns=2,
        )


def sharing(name):
    """Draws the distances between the networks of a run."""

    def draw(results, path):
        if name in results["sharing"]:
            found = results["sharing"][name]
            heat_maps(
                found["distances"],
                found["names"],
                path,
                title="MiniLM on help topics: groups that only one of two languages has\n"
                f"{SHARING[name]}",
            )

    return draw
