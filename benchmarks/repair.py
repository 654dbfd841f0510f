"""Half of a network without training: which criterion, and what fitting what is left brings.

    python benchmarks/repair.py --train                  # all; two hours on two cores
    python benchmarks/repair.py --models minilm --seeds 0 --sparsities 0.5

MiniLM, fine-tuned on movie reviews in the small setting of small_minilm.py, and the translator of
small_student.py, trained to its end, are pruned by `tfprune.prune` on 512 training examples: by
four criteria, each without repair, with corrected biases, and with least squares. With `--train`
MiniLM, half and seven tenths of it gone by gradient importance, is then trained for 1, 2 and 4
epochs. What is finished is not made again. Results are written to
benchmarks/results/repair_{minilm,translator}.{json,md,png}
"""

import time
from pathlib import Path

import numpy as np
from drawings import repairs
from drawings.repairs import CRITERIA, SPARSITIES
from lasso_target import EPOCHS as STUDENT_EPOCHS
from paired import difference, in_loss, in_points
from reports import about, arguments, in_words, result, smoke_folder, write
from small_minilm import Small, finished, once
from small_student import SmallStudent
from without_training import REPAIRS, name_of, runs

import tfprune
from tfprune.translation.training import compile_student

HERE = Path(__file__).parent
EXAMPLES = 512
# What is trained afterwards: by which criterion, how much is gone, for how many epochs.
TRAINED = ("gradient_importance", (0.5, 0.7), (1, 2, 4))


def pruned(model, data, criterion, repair, sparsity):
    """A smaller model and the seconds that it took."""
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


class Reviews(Small):
    """MiniLM of one seed, and what is pruned of it."""

    name, title = "minilm", "MiniLM in a small setting"
    difference = "in points"
    points, draw = staticmethod(in_points), staticmethod(repairs.minilm)

    def dense(self):
        """The fine-tuned model, from its file if it is there."""
        if not (self.folder / "dense.keras").exists():
            model, _ = self.fit("dense")
            self.save(model, "dense")
        model = self.load("dense")
        self.compile(model, 100)
        return model

    def figures(self, name, make):
        """Whether a model is right on each sentence, and what `make` said, from a file."""

        def figures():
            model, more = make()
            return {"each": self.right(model), **more}

        return once(self.folder / f"{name}.json", figures)

    def pruned(self, criterion, repair, sparsity):
        """A smaller model and the seconds that it took."""
        data = self.batches(self.train[:EXAMPLES])
        return pruned(self.dense(), data, criterion, repair, sparsity)

    def pruned_and_trained(self, name, criterion, repair, sparsity, epochs):
        """Such a model, trained for some epochs."""
        small, more = self.pruned(criterion, repair, sparsity)
        data = self.batches(self.train, shuffle=True)
        return self.trained(name, small, data, epochs=epochs), more

    def circumstances(self):
        """What the runs have alike, in words."""
        sizes = self.about()
        return (
            f"The first {sizes['layers']} layers of MiniLM, fine-tuned on {sizes['training']:,} "
            f"sentences for {sizes['epochs']} epochs; {sizes['test']:,} test sentences"
        )

    def in_words(self, row, with_difference=False):
        """The accuracy of a run."""
        text = f"{np.mean(list(row['mean'].values())):.1%}"
        return f"{text} ({self.points(row['against']['dense'])})" if with_difference else text


class Translations(SmallStudent):
    """The translator of one seed, and what is pruned of it."""

    name, title = "translator", "a translator in a small setting"
    difference = "in cross-entropy"
    points, draw = staticmethod(in_loss), staticmethod(repairs.translator)

    def __init__(self, folder, seed, tiny=False):
        super().__init__(folder, seed, STUDENT_EPOCHS, tiny)

    def dense(self):
        """The translator at the end of its training, from its file if it is there."""
        return compile_student(self.recipe.dense(), jit_compile=False)

    def pruned(self, criterion, repair, sparsity):
        """A smaller model and the seconds that it took."""
        data = self.recipe.some_batches(EXAMPLES, "train")
        return pruned(self.dense(), data, criterion, repair, sparsity)

    def circumstances(self):
        """What the runs have alike, in words."""
        sizes = self.about()
        return (
            f"English to German, {sizes['training']:,} help texts of at most {sizes['longest']} "
            f"words; {sizes['encoder_layers']} encoder layers and {sizes['decoder_layers']} "
            f"decoder layer, width {sizes['model_dim']}; trained for {sum(sizes['epochs'])} epochs "
            f"of {sizes['steps']} steps; {sizes['test']:,} test sentences"
        )

    def in_words(self, row, with_difference=False):
        """The loss of a run and its BLEU."""
        text = f"{np.mean(list(row['mean'].values())):.3f}"
        if with_difference:
            text += f" ({self.points(row['against']['dense'])})"
        return f"{text}, BLEU {np.mean(list(row['bleu'].values())):.1f}"


NAMES = runs(CRITERIA, REPAIRS, SPARSITIES)
NAMES_TRAINED = runs([TRAINED[0]], ("nothing", "least squares"), *TRAINED[1:])


def rows_of(figures):
    """What is reported of each run."""
    each = {name: {s: f["each"] for s, f in runs.items()} for name, runs in figures.items()}
    return {
        name: {
            "mean": {s: float(np.mean(f["each"])) for s, f in runs.items()},
            "bleu": {s: f["bleu"] for s, f in runs.items() if "bleu" in f},
            "seconds": float(np.median([f.get("seconds", 0.0) for f in runs.values()])),
            "against": {
                other: difference(each[name], each[by])
                for other, by in {"dense": "dense", **compared_with(name)}.items()
                if by in each
            },
        }
        for name, runs in figures.items()
    }


def compared_with(name):
    """What a run is compared with besides dense: what it is called, and its name."""
    criterion, repair, *rest = {**NAMES, **NAMES_TRAINED}.get(name, (None, None))
    if repair != "least squares":
        return {}
    return {
        "not fitted": name_of(criterion, "nothing", *rest),
        "reconstruction": name_of("reconstruction", repair, *rest),
    }


def report(work):
    """Reports all that is finished, of whatever seeds."""
    rows = rows_of(finished(work.folder.parent, ["dense", *NAMES, *NAMES_TRAINED]))
    stem = f"repair_{work.name}"
    results = {
        **about(__file__, "keras-hub"),
        "sizes": {**work.about(), "examples": EXAMPLES},
        "models": rows,
    }
    write(stem, results, table(results, work))
    work.draw(results, result(f"{stem}.png"))


def table(results, work):
    """The results in Markdown."""
    models = results["models"]
    dense = models["dense"]
    shown = [s for s in SPARSITIES if any(NAMES[n][2] == s for n in models if n in NAMES)]
    head = " | ".join(f"{s:.0%} removed" for s in shown)
    lines = [
        f"# Pruned without training: {work.title}",
        "",
        f"{work.circumstances()}; pruned on {EXAMPLES} training examples; {in_words(results)}. "
        f"Dense: {work.in_words(dense)}, means over the seeds {', '.join(dense['mean'])}.",
        "",
        f"| criterion | repair | {head} | seconds |",
        "|---|---|" + "---|" * len(shown) + "---|",
    ]
    for criterion in CRITERIA:
        for repair in REPAIRS:
            rows = [models.get(name_of(criterion, repair, s)) for s in shown]
            if not any(rows):
                continue
            cells = " | ".join(work.in_words(m, True) if m else "" for m in rows)
            seconds = np.median([m["seconds"] for m in rows if m])
            lines.append(f"| {criterion} | {repair} | {cells} | {seconds:.0f} |")
    lines += [
        "",
        f"In brackets: the difference to dense {work.difference}, with its standard error (test "
        "examples and seeds together); bold where it is more than two of them. seconds: of "
        "`tfprune.prune`, beside other work.",
    ]
    lines += ["", "Fitted by least squares, against the same by reconstruction:", ""]
    lines += [f"| criterion | {head} |", "|---|" + "---|" * len(shown)]
    for criterion in CRITERIA[:-1]:
        names = [name_of(criterion, "least squares", s) for s in shown]
        pairs = [models.get(name, {}).get("against", {}).get("reconstruction") for name in names]
        lines.append(f"| {criterion} | {' | '.join(work.points(pair) for pair in pairs)} |")
    trained = [name for name in NAMES_TRAINED if name in models]
    if trained:
        lines += ["", *trained_table(models, work)]
    return "\n".join(lines) + "\n"


def trained_table(models, work):
    """What training afterwards brings."""
    criterion, sparsities, epochs = TRAINED
    lines = [
        f"Trained afterwards, pruned by {criterion}:",
        "",
        "| removed | repair | none | "
        + " | ".join(f"{n} epoch{'s' * (n > 1)}" for n in epochs)
        + " |",
        "|---|---|---|" + "---|" * len(epochs),
    ]
    for sparsity in sparsities:
        for repair in ("nothing", "least squares"):
            rows = [models.get(name_of(criterion, repair, sparsity, n)) for n in (0, *epochs)]
            cells = " | ".join(work.in_words(m, True) if m else "" for m in rows)
            lines.append(f"| {sparsity:.0%} | {repair} | {cells} |")
        pairs = [m["against"].get("not fitted") if m else None for m in rows]
        lines.append(f"| {sparsity:.0%} | difference | {' | '.join(map(work.points, pairs))} |")
    return lines


WORK = {"minilm": Reviews, "translator": Translations}


def main():
    """Makes the runs, seed by seed, and writes the report after each sparsity."""
    parser = arguments(__doc__)
    parser.add_argument("--models", nargs="+", choices=WORK, default=list(WORK))
    parser.add_argument("--sparsities", nargs="+", type=float, default=list(SPARSITIES))
    parser.add_argument("--criteria", nargs="+", choices=CRITERIA, default=list(CRITERIA))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--train", action="store_true", help="MiniLM is trained afterwards too")
    parser.add_argument("--folder", type=Path, default=HERE / "checkpoints" / "repair")
    options = parser.parse_args()
    folder = options.folder
    if options.smoke:
        folder, options.seeds, options.sparsities = smoke_folder(), [0], [0.5]
        options.criteria = ["activation"]
    for seed in options.seeds:
        for name in options.models:
            work = WORK[name](folder / name, seed, options.smoke)
            work.figures("dense", lambda: (work.dense(), {}))  # noqa: B023
            for sparsity in options.sparsities:
                for run, settings in NAMES.items():
                    if settings[0] in options.criteria and settings[2] == sparsity:
                        figures = work.figures(run, lambda: work.pruned(*settings))  # noqa: B023
                        print(seed, run, f"{np.mean(figures['each']):.3f}", flush=True)
                report(work)
            if options.train and name == "minilm":
                for run, settings in NAMES_TRAINED.items():
                    work.figures(run, lambda: work.pruned_and_trained(run, *settings))  # noqa: B023
                    report(work)


if __name__ == "__main__":
    main()
