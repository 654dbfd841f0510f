"""Half of a network without training: which criterion, and what fitting what is left brings.

    python benchmarks/repair.py                     # all; about an hour on two cores
    python benchmarks/repair.py --seeds 0 --sparsities 0.5

MiniLM, fine-tuned on movie reviews in the small setting of small_minilm.py, is pruned by
`tfprune.prune` on 512 training sentences: by four criteria, each without repair, with corrected
biases, and with least squares. What is finished is not made again. Results are written to
benchmarks/results/repair.{json,md,png} after each sparsity.
"""

import time
from pathlib import Path

import keras
import numpy as np
from paired import difference, in_points
from reports import about, arguments, in_words, result, smoke_folder, write
from small_minilm import Small, finished, once

import tfprune
from tfprune.files import atomic_write
from tfprune.reports.plots import curves

HERE = Path(__file__).parent
CRITERIA = ("magnitude", "gradient_importance", "activation", "reconstruction")
REPAIRS = {"nothing": None, "bias": "bias", "least squares": "least_squares"}
SPARSITIES = (0.3, 0.5, 0.7, 0.8)
EXAMPLES = 512


class Work(Small):
    """The fine-tuned model of one seed, and what is pruned of it."""

    def dense(self):
        """The fine-tuned model, from its file if it is there."""
        path = self.folder / "dense.keras"
        if not path.exists():
            model, _ = self.fit("dense")
            with atomic_write(path) as temporary:
                model.save(temporary)
        model = keras.saving.load_model(path, compile=False)
        self.compile(model, 100)
        return model

    def figures(self, name, make):
        """Whether a model is right on each sentence, and what `make` said, from a file."""

        def figures():
            model, more = make()
            return {"right": self.right(model), **more}

        return once(self.folder / f"{name}.json", figures)

    def pruned(self, criterion, repair, sparsity):
        """A smaller model and the seconds that it took."""
        model = self.dense()
        data = self.batches(self.train[:EXAMPLES])
        started = time.perf_counter()
        small = tfprune.prune(
            model,
            tfprune.Sparsity(sparsity),
            data,
            criterion=criterion,
            repair=REPAIRS[repair],
            examples=EXAMPLES,
            verbose=0,
        )
        return small, {"seconds": time.perf_counter() - started}


def name_of(criterion, repair, sparsity):
    """The name of a run's file."""
    return f"{criterion}-{repair.replace(' ', '_')}-{sparsity:g}"


def report(folder, tiny):
    """Reports all that is finished, of whatever seeds."""
    figures = finished(folder)
    right = {name: {s: f["right"] for s, f in each.items()} for name, each in figures.items()}
    rows = {
        name: {
            "accuracy": {s: float(np.mean(f["right"])) for s, f in each.items()},
            "seconds": float(np.median([f.get("seconds", 0.0) for f in each.values()])),
            "against_dense": difference(right[name], right["dense"]),
        }
        for name, each in figures.items()
    }
    settings = {**Small(folder, 0, tiny).about(), "examples": EXAMPLES}
    results = {**about(__file__, "keras-hub"), "sizes": settings, "models": rows}
    write("repair", results, table(results))
    series = {
        f"{criterion}, {repair}": [
            (100 * s, 100 * np.mean(list(rows[name]["accuracy"].values())))
            for s in SPARSITIES
            if (name := name_of(criterion, repair, s)) in rows
        ]
        for criterion in CRITERIA
        for repair in ("nothing", "least squares")
    }
    curves(
        {name: points for name, points in series.items() if points},
        result("repair.png"),
        x="weights of the encoder removed (%)",
        y="accuracy (%)",
        reference=100 * np.mean(list(rows["dense"]["accuracy"].values())),
    )


def table(results):
    """The results in Markdown."""
    sizes, models = results["sizes"], results["models"]
    dense = models["dense"]["accuracy"]
    shown = [s for s in SPARSITIES if any(name.endswith(f"-{s:g}") for name in models)]
    lines = [
        "# Pruned without training: MiniLM in a small setting",
        "",
        f"The first {sizes['layers']} layers of MiniLM, fine-tuned on {sizes['training']:,} "
        f"sentences; pruned on {sizes['examples']} of them; {sizes['test']:,} test sentences; "
        f"{in_words(results)}. Dense: {np.mean(list(dense.values())):.1%} "
        f"({', '.join(f'{a:.1%}' for a in dense.values())}).",
        "",
        "| criterion | repair | " + " | ".join(f"{s:.0%} removed" for s in shown) + " | seconds |",
        "|---|---|" + "---|" * len(shown) + "---|",
    ]
    for criterion in CRITERIA:
        for repair in REPAIRS:
            rows = [models.get(name_of(criterion, repair, s)) for s in shown]
            if not any(rows):
                continue
            cells = [
                f"{np.mean(list(m['accuracy'].values())):.1%} ({in_points(m['against_dense'])})"
                if m
                else ""
                for m in rows
            ]
            seconds = np.median([m["seconds"] for m in rows if m])
            lines.append(f"| {criterion} | {repair} | {' | '.join(cells)} | {seconds:.0f} |")
    lines += [
        "",
        "In brackets: the difference to dense in points, with its standard error (test sentences "
        "and seeds together); bold where it is more than two of them. seconds: of "
        "`tfprune.prune`, beside other work.",
    ]
    return "\n".join(lines) + "\n"


def main():
    """Makes the runs, seed by seed, and writes the report after each sparsity."""
    parser = arguments(__doc__)
    parser.add_argument("--sparsities", nargs="+", type=float, default=list(SPARSITIES))
    parser.add_argument("--criteria", nargs="+", choices=CRITERIA, default=list(CRITERIA))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=HERE / "checkpoints" / "repair")
    options = parser.parse_args()
    folder, seeds = options.folder, options.seeds
    if options.smoke:
        folder, seeds, options.sparsities = smoke_folder(), [0, 1], [0.5]
        options.criteria = ["gradient_importance", "activation"]
    for seed in seeds:
        work = Work(folder, seed, options.smoke)
        work.figures("dense", lambda: (work.dense(), {}))  # noqa: B023
        for sparsity in options.sparsities:
            for criterion in options.criteria:
                for repair in REPAIRS:
                    name = name_of(criterion, repair, sparsity)
                    figures = work.figures(
                        name,
                        lambda: work.pruned(criterion, repair, sparsity),  # noqa: B023
                    )
                    print(seed, name, f"{np.mean(figures['right']):.3f}", flush=True)
            report(folder, options.smoke)


if __name__ == "__main__":
    main()
