"""Low-magnitude pruning of TensorFlow Model Optimization and structured pruning, side by side.

    python benchmarks/low_magnitude.py                      # all; an hour or two on two cores
    python benchmarks/low_magnitude.py --runs dense importance-0.8 --seeds 0

MiniLM in the small setting of small_minilm.py: by `ImportancePruning` in Keras 3, and by tfmot's
`prune_low_magnitude` in tf_keras, which starts from the same weights and sees the same batches in
the same order. All runs have the same number of steps. What is judged is the LiteRT files, for one
sentence of a fixed length. Runs that are finished are not made again; results are written to
benchmarks/results/low_magnitude.{json,md} after each.
"""

import gc
import json
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras
from bert_tf_keras import INPUTS, as_ids, furthest_apart, in_tf_keras
from classifier import RATE, plain
from kept_runs import keep, restore
from paired import in_points
from progress import Log
from reports import about, arguments, in_words, smoke_folder, write
from small_minilm import LENGTH, Small, left
from tfmot_tools import all_batches, compile_classifier, schedule, write_litert
from timed_files import figures_of_file, file_of, times, zipped

import tfprune
from tfprune.callbacks import ImportancePruning
from tfprune.files import atomic_write
from tfprune.litert import Runner

HERE = Path(__file__).parent
# A run to the share that it removes; those with tf_keras have names of their own.
OURS = {"dense": 0.0, "importance-0.5": 0.5, "importance-0.8": 0.8}
THEIRS = {"tf_keras-dense": 0.0, "tfmot-0.5": 0.5, "tfmot-0.8": 0.8}
RUNS = [
    "tfmot-0.5",
    "importance-0.5",
    "tfmot-0.8",
    "importance-0.8",
    "dense",
    "tf_keras-dense",
]
# Differences that are reported: a run against these.
AGAINST = {
    "tf_keras-dense": ["dense"],
    "importance-0.5": ["dense", "tfmot-0.5"],
    "importance-0.8": ["dense", "tfmot-0.8"],
    "tfmot-0.5": ["tf_keras-dense"],
    "tfmot-0.8": ["tf_keras-dense"],
}
OPTIMIZATIONS = {
    "float": [],
    "int8": [tf.lite.Optimize.DEFAULT],
    "sparse": [tf.lite.Optimize.EXPERIMENTAL_SPARSITY],
    "sparse int8": [tf.lite.Optimize.DEFAULT, tf.lite.Optimize.EXPERIMENTAL_SPARSITY],
}


def train_ours(work, name):
    """A model of Keras 3, pruned and cut, and the figures of its training."""
    model = plain(work.fresh(work.layers))
    data, share = work.batches(work.train, shuffle=True), OURS[name]
    callbacks = [Log(name)]
    if share:
        some = work.batches(work.train)
        callbacks.append(
            ImportancePruning(
                target=tfprune.Sparsity(share),
                data=some,
                batches=min(40, len(some)),
                rounds=4,
                start=0.25,
                stop=0.5,
                verbose=0,
            )
        )
    work.compile(model, work.epochs * len(data))
    started = time.perf_counter()
    # The data have an order of their own for each epoch; Keras would deal batches out once more.
    model.fit(data, epochs=work.epochs, shuffle=False, verbose=0, callbacks=callbacks)
    minutes = (time.perf_counter() - started) / 60
    small = tfprune.rebuild(model) if share else model
    before, after = left(model), left(small)
    return small, {
        "minutes": minutes,
        "left": after["weights"] / before["weights"],
        "not_zero": after["not_zero"] / before["weights"],
    }


def train_theirs(work, name):
    """Likewise a model of tf_keras, pruned and stripped."""
    classifier = work.fresh(work.layers)
    model, encoder = in_tf_keras(classifier)
    data, share = work.batches(work.train, shuffle=True), THEIRS[name]
    apart = furthest_apart(classifier, model, [data[0], data[len(data) - 1]])
    if apart > 1e-4:
        raise ValueError(f"The two models must be the same; their logits are {apart} apart.")
    steps = work.epochs * len(data)
    callbacks = [tf_keras.callbacks.LambdaCallback(on_epoch_end=Log(name).on_epoch_end)]
    if share:
        pruning = schedule(share, steps // 4, 0.7 * steps)

        def pruned_in_encoder(layer):
            if layer.name not in encoder:
                return layer
            return tfmot.sparsity.keras.prune_low_magnitude(layer, pruning)

        model = tf_keras.models.clone_model(model, clone_function=pruned_in_encoder)
        callbacks.append(tfmot.sparsity.keras.UpdatePruningStep())
    tf_keras.utils.set_random_seed(work.seed)
    compile_classifier(model, steps, RATE, weight_decay=0.01)
    started = time.perf_counter()
    model.fit(
        batches_of_ids(data, work.epochs),
        steps_per_epoch=len(data),
        epochs=work.epochs,
        verbose=0,
        callbacks=callbacks,
    )
    minutes = (time.perf_counter() - started) / 60
    if share:
        model = tfmot.sparsity.keras.strip_pruning(model)
    kernels = [model.get_layer(name).get_weights()[0] for name in encoder]
    not_zero = sum(map(np.count_nonzero, kernels)) / sum(k.size for k in kernels)
    return model, {"minutes": minutes, "left": 1.0, "not_zero": not_zero, "apart": apart}


def batches_of_ids(data, epochs):
    """The batches of all epochs, as a model of tf_keras takes them."""
    return ((tuple(as_ids(x)), y) for x, y in all_batches(data, epochs))


def write_ours(model, path, kind, length):
    """Writes the file of a model of Keras 3."""
    quantize = "dynamic_int8" if kind == "int8" else None
    tfprune.export(model, path, quantize, batch_size=1, sequence_length=length)


def write_theirs(model, path, kind, length):
    """Writes the file of a model of tf_keras."""
    specs = [tf.TensorSpec((1, length), tf.int32, name) for name in INPUTS]

    def call(*ids):
        return model(list(ids), training=False)

    write_litert(model, call, specs, path, optimizations=OPTIMIZATIONS[kind])


def run(work, name):
    """Makes one run, its files and its figures, if they are not there."""
    path = work.folder / f"{name}.json"
    if path.exists():
        return
    train, write_file = (train_ours, write_ours) if name in OURS else (train_theirs, write_theirs)
    model, figures = train(work, name)
    kinds = list(OPTIMIZATIONS) if THEIRS.get(name) else ["float", "int8"]
    figures["files"] = {}
    for kind in kinds:
        file = file_of(work.folder, name, kind)
        write_file(model, file, kind, LENGTH)
        figures["files"][kind] = {"bytes": file.stat().st_size, "zipped": zipped(file)}
        try:
            figures["files"][kind]["right"] = right(work, file)
        except ValueError as error:  # LiteRT reads the file, but has no kernel for an operation.
            if kind != "sparse int8":
                raise
            figures["files"][kind]["error"] = str(error).rpartition("LiteRT says: ")[2][:200]
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(figures))
    keep(path)
    keras.backend.clear_session()
    tf_keras.backend.clear_session()
    gc.collect()


def right(work, file):
    """Sentence by sentence, whether a file is right: zeros and ones."""
    runner = Runner(file, INPUTS)
    answers = []
    for x, y in work.test_batches():
        ids = [np.pad(a, ((0, 0), (0, LENGTH - a.shape[1]))) for a in as_ids(x)]
        for i, label in enumerate(y):
            (logits,) = runner.run([a[i : i + 1] for a in ids])
            answers.append(int(logits.argmax() == label))
    return answers


def results_of(figures, timed, settings):
    """What is kept: for each run and kind of file its figures, by seed.

    Args:
        figures: Run to seed to figures.
        timed: Seed to what `times` gives.
        settings: What the runs have alike.
    """
    rows = {}
    for name, each in figures.items():
        files = {}
        for kind in next(iter(each.values()))["files"]:
            of_kind = {seed: f["files"][kind] for seed, f in each.items()}
            errors = [f["error"] for f in of_kind.values() if "error" in f]
            files[kind] = {
                **figures_of_file(figures, timed, name, kind, AGAINST.get(name, [])),
                "zipped": {seed: f["zipped"] for seed, f in of_kind.items()},
                **({"error": errors[0]} if errors else {}),
            }
        rows[name] = {
            key: {seed: f[key] for seed, f in each.items()}
            for key in ("minutes", "left", "not_zero", "apart")
            if key in next(iter(each.values()))
        }
        rows[name]["files"] = files
    packages = ("keras-hub", "tf_keras", "tensorflow-model-optimization", "ai-edge-litert")
    dense_ms = {seed: t["ms"] for seed, t in timed.items() if t}
    return {**about(__file__, *packages), "sizes": settings, "dense_ms": dense_ms, "models": rows}


def table(results):
    """The results in Markdown."""
    sizes = results["sizes"]
    lines = [
        "# Low-magnitude pruning of tfmot beside structured pruning",
        "",
        f"The first {sizes['layers']} layers of MiniLM, {sizes['training']:,} training sentences "
        f"of at most {sizes['longest']} tokens, {sizes['epochs']} epochs, batches of "
        f"{sizes['batch']}; {sizes['test']:,} test sentences; {in_words(results)}.",
        "",
        "| run | file | accuracy | seeds | difference | weights left | not zero | MB | MB zipped | "
        "time | minutes |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in results["models"].items():
        for kind, file in row["files"].items():
            if "error" in file:
                bytes_ = " | ".join(_mean(file[key], "{:.1f}", 1e-6) for key in ("bytes", "zipped"))
                lines.append(f"| {name} | {kind} | does not run |  |  |  |  | {bytes_} |  |  |")
                continue
            seeds = ", ".join(f"{a:.1%}" for a in file["accuracy"].values())
            pairs = "; ".join(f"{in_points(p)} ({o})" for o, p in file["against"].items())
            cells = [
                name,
                kind,
                _mean(file["accuracy"], "{:.1%}"),
                seeds,
                pairs,
                _mean(row["left"], "{:.0%}"),
                _mean(row["not_zero"], "{:.0%}"),
                _mean(file["bytes"], "{:.1f}", 1e-6),
                _mean(file["zipped"], "{:.1f}", 1e-6),
                _mean(file["time"], "{:.2f}"),
                _mean(row["minutes"], "{:.1f}"),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "accuracy: of the files. difference: in points, to the run in brackets, from files of the "
        "same kind, with the standard error where there are two seeds (test sentences and seeds "
        "together); bold where it is more than two of them. weights left, not zero: of those of "
        "units and heads, or of the encoder's `Dense` kernels in tf_keras. sparse: with "
        "`Optimize.EXPERIMENTAL_SPARSITY`. MB: 10⁶ bytes; zipped with deflate. time: the median "
        "of ratios to the dense float file, one sentence, one thread. minutes: of `fit`, beside "
        "other work.",
    ]
    return "\n".join(lines) + "\n"


def _mean(values, form, factor=1.0):
    """The mean over seeds, as text."""
    return form.format(factor * np.mean(list(values.values()))) if values else ""


def main():
    """Makes the runs, seed by seed, and writes the report after each."""
    parser = arguments(__doc__)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=RUNS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=HERE / "checkpoints" / "low_magnitude")
    options = parser.parse_args()
    if options.smoke:
        options.folder, options.seeds = smoke_folder(), [0]
        options.runs = ["dense", "importance-0.5", "tfmot-0.5"]
    restore(options.folder)
    for seed in options.seeds:
        work = Small(options.folder, seed, options.smoke)
        for name in options.runs:
            run(work, name)
            report(options.folder, options.smoke, seed if name == options.runs[-1] else None)


def report(folder, tiny, timed_seed):
    """Reports all that is finished, of whatever seeds.

    Args:
        folder: Of all runs.
        tiny: As for `--smoke`.
        timed_seed: The seed whose files are timed; of others what is known is reported.
    """
    figures, timed = {}, {}
    for kept in sorted(folder.glob("*-seed-*")):
        seed = kept.name.rpartition("-")[2]
        work = Small(folder, int(seed), tiny)
        paths = {name: work.folder / f"{name}.json" for name in [*OURS, *THEIRS]}
        of_seed = {n: json.loads(p.read_text()) for n, p in paths.items() if p.exists()}
        rounds = (5 if tiny else 200) if int(seed) == timed_seed else 0
        timed[seed] = times(work.folder, of_seed, rounds)
        for name, figure in of_seed.items():
            figures.setdefault(name, {})[seed] = figure
    figures = {name: figures[name] for name in [*OURS, *THEIRS] if name in figures}
    results = results_of(figures, timed, Small(folder, 0, tiny).about())
    write("low_magnitude", results, table(results))


if __name__ == "__main__":
    main()
