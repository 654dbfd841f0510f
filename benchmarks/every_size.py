"""A translator of every size from one training, against sizes that are trained one by one.

    python benchmarks/every_size.py
    python benchmarks/every_size.py --runs dynamic importance-0.5

The student of benchmarks/translation.py, from the same checkpoint and for as many steps. `dynamic`
trains ten sizes at once; `importance-0.5` prunes by gradient importance to one. Runs that are
finished are not made again; a killed one goes on from its last epoch. Results are written to
benchmarks/results/every_size.{json,md,png} after each.
"""

from pathlib import Path

import keras
import numpy as np
from drawings import translators as draw
from reports import arguments, result, write
from translation import recipe
from translators import circumstances, export_once, measured, p_value

import tfprune
from tfprune.callbacks import DynamicSparsity, ImportancePruning
from tfprune.files import atomic_write

HERE = Path(__file__).parent
SIZES = [round(float(t), 1) for t in np.arange(1.0, 0.05, -0.1)]
RUNS = ("dynamic", "importance-0.5", "importance-0.3", "importance-0.7")


class SaveSizes(keras.callbacks.Callback):
    """Cuts each size out of the model when it is trained, and writes it to a file of its own."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_train_end(self, logs=None):
        """Writes them; stands behind `DynamicSparsity`, which opens its gates first."""
        for size in SIZES:
            with atomic_write(self.folder / f"dynamic@{size:g}.keras") as temporary:
                tfprune.rebuild(self.model, size=size).save(temporary)


def make(name, work):
    """Makes a run, or loads what is finished: label to model."""
    epochs = work.pruning_epochs + work.converge_epochs

    def train(*callbacks):
        done = work.pretrained_epochs
        return work.stage(name, work.pretrained, epochs, done, callbacks, last=True)

    if name == "dense":
        return {name: work.dense()}
    if name == "dynamic":
        train(
            DynamicSparsity(SIZES, data=work.some_batches(split="train"), start=0, verbose=0),
            SaveSizes(work.folder),
        )
        files = {f"dynamic@{size:g}": work.folder / f"dynamic@{size:g}.keras" for size in SIZES}
        return {label: keras.saving.load_model(path) for label, path in files.items()}
    target = tfprune.Sparsity(1 - float(name.rpartition("-")[2]))
    pruning = ImportancePruning(
        target=target, data=work.some_batches(split="train"), rounds=4, start=0, stop=0.4, verbose=0
    )
    return {name: tfprune.rebuild(train(pruning))}


def report(made, work, pairs):
    """Scores, sizes and speeds of everything that is finished."""
    files = {
        label: export_once(work, model, work.folder / f"{label}.tflite")
        for label, model in made.items()
    }
    results = measured(__file__, work, made, files, pairs, timed=100)
    results["sizes"]["epochs"] = [
        work.pretrained_epochs,
        work.pruning_epochs + work.converge_epochs,
    ]
    weights = {
        label: sum(s.weights for s in tfprune.find_structures(model))
        for label, model in made.items()
    }
    for label, row in results["models"].items():
        row["weights_left"] = weights[label] / weights["dense"]
    write("every_size", results, table(results))
    draw.every_size(results, result("every_size.png"))


def table(results):
    """The results in Markdown."""
    sizes = results["sizes"]
    lines = [
        "# Translation: every size from one training, against one training for each",
        "",
        *circumstances(
            results,
            f"{sizes['epochs'][0]} epochs to the checkpoint and {sizes['epochs'][1]} from there; ",
        ),
        "| model | weights left | BLEU | p | chrF | parameters | MB | words/s | time |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for label, m in results["models"].items():
        lines.append(
            f"| {label} | {m['weights_left']:.0%} | {m['bleu']:.1f} | {p_value(m)} | "
            f"{m['chrf']:.1f} | {m['parameters']:,} | {m['bytes'] / 1e6:.2f} | "
            f"{m['speed']['words_per_second']:.0f} | {m['speed']['time_ratio']:.2f} |"
        )
    lines += [
        "",
        "weights left: of units and heads. time: median over sentences of time by the dense "
        "model's, timed in turn; p: paired bootstrap of BLEU against dense. dynamic@0.5: that "
        "size of the one training.",
    ]
    return "\n".join(lines) + "\n"


def main():
    """Makes the runs and writes the report after each."""
    parser = arguments(__doc__)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--folder", help="checkpoints; by default those of translation.py")
    parser.add_argument("--train-only", action="store_true", help="no files, no report")
    options = parser.parse_args()
    folder = options.folder or HERE / "checkpoints" / "4-1"
    work = recipe("4-1", None if options.smoke else folder)
    if options.smoke:
        SIZES[:] = [1.0, 0.5]
        options.runs = ["dynamic", "importance-0.5"]
    pairs = work.held_out("test", 2000)
    made = {}
    for name in dict.fromkeys(["dense", *options.runs]):
        made |= make(name, work)
        if not options.train_only:
            report(made, work, pairs)


if __name__ == "__main__":
    main()
