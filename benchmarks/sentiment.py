"""Gates, movement and importance on pretrained MiniLM, fine-tuned on movie reviews.

    python benchmarks/sentiment.py                          # everything; hours on two cores
    python benchmarks/sentiment.py --sparsities 0.5 --methods struct hybrid_filled
    python benchmarks/sentiment.py --heads                  # heads alone: lottery and importance

A run starts from the pretrained weights and fine-tunes for the same number of epochs as the dense
one it is compared with, pruning included; `+teacher` adds the logits of the dense model. Runs that
are finished are not made again. Results are written to benchmarks/results/sentiment.{json,md,png}
after each; those of another number of epochs to sentiment_12-epochs.*, of heads alone to
sentiment_heads.*
"""

import gc
import json
from pathlib import Path

import keras
import smoke
from classifier import BATCH, RATE, Classification, plain
from drawings import reviews
from reports import about, arguments, in_words, result, smoke_folder, write

import tfprune
from tfprune import criteria
from tfprune.callbacks import HardConcreteGates, HeadLottery, ImportancePruning, MovementPruning
from tfprune.datasets import movie_reviews
from tfprune.files import atomic_write

HERE = Path(__file__).parent
EPOCHS = 4
LENGTH = 64
# Movement and gates need time with their penalty; importance needs a model that has learned.
METHODS = {
    "random": lambda target, dev: ImportancePruning(
        target=target, criterion=criteria.random(0), start=0.25, verbose=0
    ),
    "magnitude": lambda target, dev: ImportancePruning(
        target=target, criterion="magnitude", start=0.25, verbose=0
    ),
    "importance": lambda target, dev: ImportancePruning(
        target=target, data=dev, rounds=4, start=0.25, stop=0.5, verbose=0
    ),
    "heads": lambda target, dev: ImportancePruning(
        "heads", target, dev, rounds=4, start=0.25, stop=0.5, verbose=0
    ),
    "hard_concrete": lambda target, dev: HardConcreteGates(target=target, stop=0.6, verbose=0),
    "struct": lambda target, dev: MovementPruning("struct", target=target, verbose=0),
    "hybrid": lambda target, dev: MovementPruning("hybrid", target=target, verbose=0),
    "hybrid_filled": lambda target, dev: MovementPruning("hybrid_filled", target=target, verbose=0),
}
EVERYWHERE = [name for name in METHODS if name != "heads"]
# Of the heads alone: by importance in a fit, and by the lottery before one.
HEADS = ("lottery-0.5", "heads-0.5", "lottery-0.75", "heads-0.75")


class Experiment(Classification):
    """Movie reviews, and one run for each method and sparsity."""

    def __init__(self, folder, epochs, seed, text=None, weights=None):
        super().__init__(folder, 2, LENGTH, epochs, seed, weights)
        self.text = text or movie_reviews()

    def run(self, name, make, callback=None, teacher=None):
        """A trained and rebuilt model, from its file if it is there."""
        if not (self.folder / f"{name}.keras").exists():
            model = make()
            # The same layers as a plain model: KerasHub's `fit` takes no batches by length.
            data = self.batches(self.text.train, shuffle=True)
            self.trained(name, plain(model), data, callback, teacher)
            self.save(tfprune.rebuild(model) if callback is not None else model, name)
        return self.load(name)

    def ticket(self, share):
        """The pretrained classifier without the heads that lose the lottery, not yet fine-tuned."""
        model = self.fresh()
        search = plain(model)
        data = self.batches(self.text.train, shuffle=True)
        # A quarter of an epoch for each round; the checkpoint are the pretrained weights.
        lottery = HeadLottery(
            tfprune.Sparsity(share),
            heads_per_round=6,
            data=self.batches(self.text.dev),
            start=0,
            round_length=max(len(data) // 4, 1),
        )
        self.compile(search, self.epochs * len(data))
        search.fit(data, epochs=10, verbose=0, callbacks=[lottery])
        print(lottery.table(), flush=True)
        return tfprune.rebuild(model)

    def accuracy(self, name, model):
        """On the test set."""
        return self.score(name, lambda: model, self.text.test)


def train(work, name):
    """One run by its name, such as `struct-0.5+teacher`, `layers-3` or `lottery-0.5`."""
    if name == "dense":
        return work.run(name, work.fresh)
    method, _, teacher = name.partition("+")
    method, _, amount = method.rpartition("-")
    taught_by = train(work, "dense") if teacher else None
    if method == "layers":
        return work.run(name, lambda: work.fresh(int(amount)), teacher=taught_by)
    if method == "lottery":
        return work.run(name, lambda: work.ticket(float(amount)), teacher=taught_by)
    target = tfprune.Sparsity(float(amount))
    callback = METHODS[method](target, work.batches(work.text.dev))
    return work.run(name, work.fresh, callback, taught_by)


def names(options):
    """The runs asked for; those that tell most come first."""
    if options.heads:
        return ["dense", *HEADS]
    wanted = ["dense"]
    for sparsity in options.sparsities:
        share = f"{sparsity:g}"
        for suffix in ("", "+teacher"):
            wanted.append(f"layers-{round(6 * (1 - sparsity))}{suffix}")
            wanted += [f"{method}-{share}{suffix}" for method in options.methods]
    return list(dict.fromkeys(wanted))


def report(work, runs, stem):
    """Accuracy, size and speed of everything that is finished."""
    rows, files = {}, {}
    for name in runs:
        if not (work.folder / f"{name}.keras").exists():
            continue
        model = train(work, name)
        kept = work.folder / f"{name}.figures.json"
        if not kept.exists():
            for suffix, quantize in (("", None), (".int8", "dynamic_int8")):
                path = work.folder / f"{name}{suffix}.tflite"
                tfprune.export(model, path, quantize=quantize)
            structures = tfprune.find_structures(model)
            figures = {
                "accuracy": work.accuracy(name, model),
                "encoder_weights": sum(s.weights for s in structures),
                "parameters": tfprune.count_parameters(model),
                "groups": {s.name: s.groups for s in structures},
            }
            with atomic_write(kept) as temporary:
                temporary.write_text(json.dumps(figures))
        rows[name] = json.loads(kept.read_text())
        for label, suffix in ((name, ""), (f"{name} int8", ".int8")):
            files[label] = work.folder / f"{name}{suffix}.tflite"
        keras.backend.clear_session()
        gc.collect()
    timed = tfprune.compare_latency(list(files.values()), sequence_length=LENGTH, runs=30)
    ratios = dict(zip(files, timed.ratios, strict=True))
    for name, row in rows.items():
        row |= {
            "bytes": files[name].stat().st_size,
            "bytes_int8": files[f"{name} int8"].stat().st_size,
            "time": ratios[name],
            "time_int8": ratios[f"{name} int8"],
        }
    results = {
        **about(__file__, "keras-hub", "ai-edge-litert"),
        "sizes": {
            "training": len(work.text.train),
            "test": len(work.text.test),
            "epochs": work.epochs,
            "batch": BATCH,
            "learning_rate": RATE,
            "longest": LENGTH,
            "seed": work.seed,
        },
        "models": rows,
    }
    write(stem, results, table(results))
    drawn = reviews.heads if stem.startswith("sentiment_heads") else reviews.by_method
    drawn(results, result(f"{stem}.png"))
    reviews.left(results, result(f"{stem}_survivors.png"))


def table(results):
    dense = results["models"]["dense"]
    sizes = results["sizes"]
    heads = sum(n for k, n in dense["groups"].items() if "attention" in k)
    units = sum(n for k, n in dense["groups"].items() if "attention" not in k)
    lines = [
        "# Sentiment: MiniLM on movie reviews, every run with the same number of steps",
        "",
        f"{sizes['training']:,} training and {sizes['test']:,} test sentences, {sizes['epochs']} "
        f"epochs, batches of {sizes['batch']}; {in_words(results)}; LiteRT on one thread, "
        f"{sizes['longest']} tokens.",
        "",
        "| model | accuracy | encoder weights left | heads | units | MB | MB int8 | time | "
        "time int8 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, m in results["models"].items():
        left = {
            kind: sum(n for k, n in m["groups"].items() if ("attention" in k) == kind)
            for kind in (True, False)
        }
        lines.append(
            f"| {name} | {m['accuracy']:.1%} | "
            f"{m['encoder_weights'] / dense['encoder_weights']:.0%} | {left[True]} of {heads} | "
            f"{left[False]:,} of {units:,} | {m['bytes'] / 1e6:.1f} | "
            f"{m['bytes_int8'] / 1e6:.1f} | {m['time']:.2f} | {m['time_int8']:.2f} |"
        )
    error = 100 * (dense["accuracy"] * (1 - dense["accuracy"]) / sizes["test"]) ** 0.5
    lines += [
        "",
        f"Standard error of an accuracy: {error:.1f} points. time: median of ratios to the dense "
        "float model's, timed in turn, batch of one.",
    ]
    if any(name.startswith("lottery") for name in results["models"]):
        lines[-1] += " The search of the lottery comes before the epochs that are counted."
    return "\n".join(lines) + "\n"


def main():
    parser = arguments(__doc__)
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=EVERYWHERE)
    parser.add_argument("--sparsities", nargs="+", type=float, default=[0.5, 0.3, 0.7])
    which = parser.add_mutually_exclusive_group()  # Each has a report of its own.
    which.add_argument("--runs", nargs="+", help="names of runs, instead of methods")
    which.add_argument("--heads", action="store_true", help="heads alone, by lottery too")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train-only", action="store_true", help="no files, no report")
    parser.add_argument("--folder", type=Path, default=HERE / "checkpoints" / "sentiment")
    options = parser.parse_args()
    if options.smoke:
        folder = smoke_folder()
        options.runs = ["dense", "random-0.5", "hybrid-0.5+teacher", "layers-1", "lottery-0.5"]
        work = Experiment(folder, 2, 0, smoke.reviews(), smoke.bert(folder / "bert"))
    else:
        work = Experiment(options.folder, options.epochs, options.seed)
    runs = ["dense", *options.runs] if options.runs else names(options)
    stem = "sentiment_heads" if options.heads else "sentiment"
    if work.epochs != EPOCHS:
        stem += f"_{work.epochs}-epochs"
    for name in dict.fromkeys(runs):
        finished = (work.folder / f"{name}.keras").exists()
        work.accuracy(name, train(work, name))
        keras.backend.clear_session()
        gc.collect()
        if not options.train_only and (not finished or name == runs[-1]):
            report(work, runs, stem)


if __name__ == "__main__":
    main()
