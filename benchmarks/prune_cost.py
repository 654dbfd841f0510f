"""What `tfprune.prune` costs on a model of BERT-base's size: seconds and memory.

    python benchmarks/prune_cost.py

Half of a BertTextClassifier of KerasHub with 110 million random weights is pruned on 128 sequences
of 64 tokens, by each criterion in a process of its own, and fitted by least squares. Rows of
criteria that are not run stay as they were. Results are written to
benchmarks/results/prune_cost.{json,md}
"""

import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from reports import about, arguments, in_words, result, smoke_folder, write

CRITERIA = ("magnitude", "gradient_importance", "activation", "reconstruction")
EXAMPLES, LENGTH = 128, 64


def classifier(tiny):
    """A classifier with random weights, and examples for it."""
    import keras
    import keras_hub

    keras.utils.set_random_seed(0)
    layers, heads, width, units, tokens = (2, 2, 16, 32, 64) if tiny else (12, 12, 768, 3072, 30522)
    backbone = keras_hub.models.BertBackbone(tokens, layers, heads, width, units, dropout=0.0)
    task = keras_hub.models.BertTextClassifier(backbone, 2)
    model = keras.Model(task.input, task.output)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, jit_compile=False)
    draw = np.random.default_rng(0)
    x = {
        "token_ids": draw.integers(1, tokens, (EXAMPLES, LENGTH)),
        "segment_ids": np.zeros((EXAMPLES, LENGTH), int),
        "padding_mask": np.ones((EXAMPLES, LENGTH), bool),
    }
    return model, (x, draw.integers(0, 2, EXAMPLES))


def resident():
    """Bytes of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def prune(criterion, tiny):
    """Prunes once; prints what it took."""
    import tfprune

    model, data = classifier(tiny)
    size = 4 * model.count_params()
    model.predict(data[0], batch_size=32, verbose=0)  # What Keras compiles is no part of it.
    before, peak, is_over = resident(), 0, threading.Event()

    def watch():
        nonlocal peak
        while not is_over.wait(0.01):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    small = tfprune.prune(model, tfprune.Sparsity(0.5), data, criterion=criterion, verbose=0)
    seconds, now = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
    is_over.set()
    watcher.join()
    figures = {
        "seconds": seconds,
        "processor_seconds": now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime,
        "peak_by_model": (peak - before) / size,
        "parameters": [model.count_params(), small.count_params()],
    }
    print(json.dumps(figures))


def table(results):
    """The results in Markdown."""
    rows = results["criteria"]
    parameters = next(iter(rows.values()))["parameters"]
    lines = [
        "# What pruning without training costs",
        "",
        f"A BERT of {parameters[0]:,} parameters, half of its heads and units gone by "
        f"`tfprune.prune`, fitted by least squares; {EXAMPLES} sequences of {LENGTH} tokens; "
        f"{in_words(results)}.",
        "",
        "| criterion | seconds | processor seconds | memory on top, by the model's bytes |",
        "|---|---|---|---|",
    ]
    for name, m in rows.items():
        lines.append(
            f"| {name} | {m['seconds']:.0f} | {m['processor_seconds']:.0f} | "
            f"{m['peak_by_model']:.2f} |"
        )
    lines += [
        "",
        "Memory on top: the highest resident memory during `prune`, less that before it; the "
        "smaller model is part of it.",
    ]
    return "\n".join(lines) + "\n"


def main():
    """Prunes by each criterion in a process of its own, and writes the report."""
    parser = arguments(__doc__)
    parser.add_argument("--criteria", nargs="+", choices=CRITERIA, default=list(CRITERIA))
    parser.add_argument("--once", choices=CRITERIA, help="in this process; prints figures")
    options = parser.parse_args()
    if options.once:
        prune(options.once, options.smoke)
        return
    if options.smoke:
        smoke_folder()
        options.criteria = ["activation"]
    earlier = result("prune_cost.json")
    rows = json.loads(earlier.read_text())["criteria"] if earlier.exists() else {}
    for criterion in options.criteria:
        command = [sys.executable, __file__, "--once", criterion, *["--smoke"] * options.smoke]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows[criterion] = json.loads(said.splitlines()[-1])
        print(criterion, rows[criterion], flush=True)
        rows = {name: rows[name] for name in CRITERIA if name in rows}
        results = {**about(__file__, "keras-hub"), "criteria": rows}
        write("prune_cost", results, table(results))


if __name__ == "__main__":
    main()
