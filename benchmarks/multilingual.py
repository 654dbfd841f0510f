"""One network for four languages, or one for each: pretrained MiniLM on help topics.

    python benchmarks/multilingual.py                    # everything; hours on two cores
    python benchmarks/multilingual.py --runs importance-0.5 importance-0.5-each

The comparison of Li et al., 2022, on the module of LibreOffice that a paragraph is about, in
English, German, Spanish and French. A run starts from the pretrained weights and has the same
number of steps as the dense one, pruning included; `-longer` has twice as many. `-each` gives every
language its own network, `-diverse` adds the diversity loss, `+teacher` the logits of the dense
model; `dynamic` trains all sizes at once. Runs that are finished are not made again. Results are
written to benchmarks/results/multilingual.{json,md,png} after each.
"""

import gc
import json
from functools import cache, cached_property, partial
from pathlib import Path

import keras
import numpy as np
import smoke
from classifier import BATCH, RATE, Classification, plain
from drawings import topics
from drawings.topics import mean
from reports import about, arguments, in_words, result, smoke_folder, write

import tfprune
from tfprune.callbacks import DynamicSparsity, HardConcreteGates, ImportancePruning
from tfprune.datasets import help_topics
from tfprune.files import atomic_write

HERE = Path(__file__).parent
LANGUAGES = ("en", "de", "es", "fr")
FAMILIES = (("en", "de"), ("es", "fr"))
LENGTH = 48
SIZES = (1.0, 0.75, 0.5, 0.25)
TRAINING, DEVELOPMENT, TEST = 2000, 250, 1000  # paragraphs of each language
RANK = 192  # of the 384 of an embedding, where it is made small
HALF = tfprune.Sparsity(0.5)


def importance(data, share):
    return ImportancePruning(
        target=tfprune.Sparsity(1 - share), data=data, rounds=4, start=0.25, stop=0.5, verbose=0
    )


def dynamic(data, **options):
    return DynamicSparsity(data=data, start=0.25, verbose=0, **options)


LONGER = "-longer"  # Twice the epochs; for all sizes at once still fewer than for each.
EACH = {"subnetworks": LANGUAGES}
DIVERSE = {**EACH, "families": FAMILIES}
# Name to the callback; what tells most comes first.
RUNS = {
    "dense": None,
    "importance-0.5": lambda data: importance(data, 0.5),
    "importance-0.5-each": lambda data: dynamic(data, sizes=[0.5], **EACH),
    "l0-0.5": lambda data: HardConcreteGates(target=HALF, stop=0.6, verbose=0),
    "l0-0.5-each": lambda data: HardConcreteGates(target=HALF, stop=0.6, verbose=0, **EACH),
    "l0-0.5-each-diverse": lambda data: HardConcreteGates(
        target=HALF, stop=0.6, diversity=1.0, verbose=0, **DIVERSE
    ),
    "dynamic": lambda data: dynamic(data, sizes=SIZES),
    "dynamic-longer": lambda data: dynamic(data, sizes=SIZES),
    "dense-longer": None,
    "importance-0.5-longer": lambda data: importance(data, 0.5),
    "importance-0.75": lambda data: importance(data, 0.75),
    "importance-0.25": lambda data: importance(data, 0.25),
    "layers-3": None,
    "dynamic-each": lambda data: dynamic(data, sizes=SIZES, **EACH),
    "dynamic-each-trained": lambda data: dynamic(
        data, sizes=SIZES, train_gates=True, diversity=1.0, **DIVERSE
    ),
    "importance-0.5+teacher": lambda data: importance(data, 0.5),
    "l0-0.5-each-diverse+teacher": lambda data: HardConcreteGates(
        target=HALF, stop=0.6, diversity=1.0, verbose=0, **DIVERSE
    ),
    "small-embeddings-0.5": lambda data: importance(data, 0.5),
}


class Experiment(Classification):
    """Help topics in four languages."""

    def __init__(self, folder, training, epochs, seed, text=None, weights=None):
        text = text or help_topics(LANGUAGES)
        classes = len(text[LANGUAGES[0]].classes)
        folder = folder / f"{training}-paragraphs"
        super().__init__(folder, classes, LENGTH, epochs, seed, weights)

        def some(split, count):
            return {name: spread_out(getattr(text[name], split), count) for name in LANGUAGES}

        self.train, self.dev = some("train", training), some("dev", DEVELOPMENT)
        self.test = some("test", TEST)

    def networks(self, name):
        """What a run leaves: `(size, language)` to the name of a file; `None` where it is one."""
        each, many = "-each" in name, name.startswith("dynamic")
        return {
            (size, language): "@".join(
                [name, *([f"{size:g}"] if many else []), *([language] if each else [])]
            )
            for size in (SIZES if many else (None,))
            for language in (LANGUAGES if each else (None,))
        }

    def finished(self, name):
        """Whether a run has left all its networks."""
        files = self.networks(name).values()
        return all((self.folder / f"{file}.keras").exists() for file in files)

    def make(self, name):
        """Makes a run, unless it is finished."""
        if self.finished(name):
            return
        teacher = None
        if "+teacher" in name:
            self.make("dense")
            teacher = self.load("dense")
        model = plain(self.fresh(3 if name == "layers-3" else None))
        tokenizer = self.tokenizer_of(name)
        if tokenizer is not self.tokenizer:
            model, _ = tfprune.trim_vocabulary(model, self.tokenizer, self.corpus())
            model = tfprune.factorize_embeddings(model, RANK)
        train, dev = self.train, self.dev
        if "-each" not in name:  # A model without gates by language takes no language.
            train, dev = joined(train), joined(dev)
        callback = RUNS[name] and RUNS[name](self.batches(dev, tokenizer=tokenizer))
        data = self.batches(train, shuffle=True, tokenizer=tokenizer)
        epochs = self.epochs * (2 if name.endswith(LONGER) else 1)
        self.trained(name, model, data, callback, teacher, epochs)
        if "-each" in name:
            found = tfprune.sharing(model, 0.5 if name.startswith("dynamic") else None)
            self.write(f"{name}.sharing.json", found.to_dict())
        for (size, language), file in self.networks(name).items():
            pruned = callback is not None
            self.save(tfprune.rebuild(model, None, size, language) if pruned else model, file)

    def corpus(self):
        """All training texts."""
        return [text for text, _ in joined(self.train)]

    def tokenizer_of(self, name):
        """The tokenizer of a run; with small embeddings, that of the tokens that occur."""
        return self.trimmed if name.startswith("small-embeddings") else self.tokenizer

    @cached_property
    def trimmed(self):
        """The tokenizer of the tokens that occur in training."""
        return tfprune.trim_vocabulary(plain(self.fresh()), self.tokenizer, self.corpus())[1]

    def write(self, name, content):
        """Keeps something as JSON beside the models."""
        with atomic_write(self.folder / name) as temporary:
            temporary.write_text(json.dumps(content))

    def accuracies(self, name, size):
        """Accuracy by language, each on its own network where it has one."""
        files = self.networks(name)
        tokenizer = self.tokenizer_of(name)
        load = cache(self.load)  # One network may be for all languages.
        found = {}
        for language in LANGUAGES:
            file = files[size, language if "-each" in name else None]
            found[language] = self.score(
                f"{file}-on-{language}", partial(load, file), self.test[language], tokenizer
            )
        return found

    def figures(self, name, size):
        """One row of the table, kept beside the models; and the file that is timed."""
        files = [file for (t, _), file in self.networks(name).items() if t == size]
        path = self.folder / f"{files[0]}.figures.json"
        if not path.exists():
            weights, parameters = [], []
            for file in files:
                model = self.load(file)
                of_encoder = [s for s in tfprune.find_structures(model) if s.kind != "ranks"]
                weights.append(sum(s.weights for s in of_encoder))
                parameters.append(tfprune.count_parameters(model))
                if file == files[0]:
                    tfprune.export(model, self.folder / f"{file}.tflite")
            figures = {
                "accuracy": self.accuracies(name, size),
                "encoder_weights": float(np.mean(weights)),
                "parameters": float(np.mean(parameters)),
                "networks": len(files),
            }
            self.write(path.name, figures)
        return json.loads(path.read_text()), self.folder / f"{files[0]}.tflite"


def joined(languages):
    """The rows of all languages, one after the other."""
    return [row for rows in languages.values() for row in rows]


def spread_out(rows, count):
    """So many rows, taken evenly from all pages."""
    picked = np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)
    return [rows[i] for i in picked]


def report(work, runs):
    """Accuracy by language, size and speed of everything that is finished."""
    rows, files = {}, {}
    for name in runs:
        if not work.finished(name):
            continue
        for size in dict.fromkeys(size for size, _ in work.networks(name)):
            label = name if size is None else f"{name} at {size:g}"
            rows[label], files[label] = work.figures(name, size)
            keras.backend.clear_session()
            gc.collect()
    for batch, times in ((1, "time"), (32, "time_batch_32")):
        timed = tfprune.compare_latency(
            list(files.values()), batch_size=batch, sequence_length=LENGTH, runs=20
        )
        for row, latency, ratio in zip(rows.values(), timed.latencies, timed.ratios, strict=True):
            row[times] = ratio
            row[f"per_second_batch_{batch}"] = 1000 * batch / latency.median
    for label, row in rows.items():
        row["bytes"] = files[label].stat().st_size
    results = {
        **about(__file__, "keras-hub", "ai-edge-litert"),
        "sizes": {
            "training_each": len(work.train["en"]),
            "test_each": {name: len(rows) for name, rows in work.test.items()},
            "epochs": work.epochs,
            "batch": BATCH,
            "learning_rate": RATE,
            "longest": LENGTH,
            "seed": work.seed,
        },
        "models": rows,
        "sharing": {
            name: json.loads((work.folder / f"{name}.sharing.json").read_text())
            for name in runs
            if (work.folder / f"{name}.sharing.json").exists()
        },
    }
    results = with_earlier(results)
    write("multilingual", results, table(results))
    topics.by_size(results, result("multilingual.png"))
    for name in topics.SHARING:
        topics.sharing(name)(results, result(f"multilingual_sharing_{name}.png"))


def with_earlier(results):
    """Keeps what an earlier report had of models that are not available.

    Ratios of times stand: the dense model is timed in every report. How many texts a second a
    machine does is not the same on another day, and is left out.
    """
    path = result("multilingual.json")
    earlier = json.loads(path.read_text()) if path.exists() else {}
    if any(earlier.get(key) != results[key] for key in ("versions", "machine", "sizes")):
        return results
    rows = {label: {**row, "earlier": True} for label, row in earlier["models"].items()}
    rows |= results["models"]
    order = list(RUNS)
    labels = sorted(rows, key=lambda label: order.index(label.partition(" at ")[0]))
    return {
        **results,
        "models": {label: rows[label] for label in labels},
        "sharing": earlier["sharing"] | results["sharing"],
    }


def table(results):
    """The results in Markdown."""
    dense, sizes = results["models"]["dense"], results["sizes"]
    lines = [
        "# Help topics in four languages: one network for all, or one for each",
        "",
        f"MiniLM, {sizes['training_each']:,} training paragraphs of each language, "
        f"{sum(sizes['test_each'].values()):,} test paragraphs, {sizes['epochs']} epochs, batches "
        f"of {sizes['batch']}; {in_words(results)}; LiteRT on one thread, {sizes['longest']} "
        "tokens.",
        "",
        f"| model | {' | '.join(LANGUAGES)} | mean | encoder weights left | parameters | MB | "
        "time | time, batch of 32 | per second | per second, batch of 32 |",
        "|---" * (len(LANGUAGES) + 9) + "|",
    ]
    for label, m in results["models"].items():
        speed = "* | *"
        if not m.get("earlier"):
            speed = f"{m['per_second_batch_1']:.0f} | {m['per_second_batch_32']:.0f}"
        accuracy = " | ".join(f"{m['accuracy'][name]:.1%}" for name in LANGUAGES)
        lines.append(
            f"| {label} | {accuracy} | {mean(m):.1%} | "
            f"{m['encoder_weights'] / dense['encoder_weights']:.0%} | {m['parameters'] / 1e6:.1f} M"
            f" | {m['bytes'] / 1e6:.1f} | {m['time']:.2f} | {m['time_batch_32']:.2f} | {speed} |"
        )
    number = sum(sizes["test_each"].values())
    error = 100 * (mean(dense) * (1 - mean(dense)) / number) ** 0.5
    lines += [
        "",
        f"Standard error of a mean: {error:.1f} points. Of networks by language (-each), "
        "parameters are the mean, file and times those of the first. time: median of ratios to the "
        "dense model's, timed in turn. *: from an earlier report, whose speeds cannot be compared "
        "with these.",
    ]
    return "\n".join(lines) + "\n"


def main():
    """Makes the runs and writes the report after each."""
    parser = arguments(__doc__)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--training", type=int, default=TRAINING, help="paragraphs by language")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train-only", action="store_true", help="no files, no report")
    parser.add_argument("--folder", type=Path, default=HERE / "checkpoints" / "multilingual")
    options = parser.parse_args()
    if options.smoke:
        folder = smoke_folder()
        options.runs = ["importance-0.5", "l0-0.5-each-diverse", "dynamic"]
        text, weights = smoke.topics(LANGUAGES), smoke.bert(folder / "bert")
        work = Experiment(folder, 64, 2, 0, text, weights)
    else:
        work = Experiment(options.folder, options.training, options.epochs, options.seed)
    runs = list(dict.fromkeys(["dense", *options.runs]))
    for name in runs:
        finished = work.finished(name)
        work.make(name)
        for size in dict.fromkeys(size for size, _ in work.networks(name)):
            found = work.accuracies(name, size)
            if not finished:
                print(name, size or "", {k: round(v, 4) for k, v in found.items()}, flush=True)
        keras.backend.clear_session()
        gc.collect()
        if not options.train_only and (not finished or name == runs[-1]):
            report(work, runs)


if __name__ == "__main__":
    main()
