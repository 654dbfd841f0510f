"""What each callback costs in a training step.

    python benchmarks/step_time.py

Two models of the same seed train in turn, one with the callback and one without; the figure is the
median over rounds of the ratio of their epoch times. Writes benchmarks/results/step_time.*
"""

import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers
from reports import about, arguments, in_words, smoke_folder, write

import tfprune
from tfprune.callbacks import (
    DynamicSparsity,
    GroupLasso,
    HardConcreteGates,
    ImportancePruning,
    MovementPruning,
)

HALF = {"target": tfprune.Sparsity(0.5), "verbose": 0}
# `stop=None`: the penalty is on in every step that is timed.
CALLBACKS = {
    "GroupLasso": lambda: GroupLasso(strength=1e-6, verbose=0),
    "HardConcreteGates": lambda: HardConcreteGates(stop=None, **HALF),
    "MovementPruning struct": lambda: MovementPruning("struct", stop=None, **HALF),
    "MovementPruning hybrid": lambda: MovementPruning("hybrid", stop=None, **HALF),
    "DynamicSparsity": lambda: DynamicSparsity(start=0, verbose=0),
    "DynamicSparsity, trained gates": lambda: DynamicSparsity(start=0, train_gates=True, verbose=0),
    "ImportancePruning": lambda: ImportancePruning(criterion="magnitude", **HALF),
}
TARGETS = {"GroupLasso": 1.05, "HardConcreteGates": 1.10, "ImportancePruning": 1.05}


class Watch(keras.callbacks.Callback):
    """Seconds of each epoch; the first compiles and does not count."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clock."""
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Stops it."""
        self.seconds.append(time.perf_counter() - self.start)


def encoder(depth, width, units, heads, length=None, final=8):
    x = inputs = keras.Input((length, width))
    for i in range(depth):
        y = layers.LayerNormalization()(x)
        y = layers.MultiHeadAttention(heads, width // heads, name=f"attention_{i}")(y, y)
        x = layers.Add()([x, y])
        y = layers.LayerNormalization()(x)
        y = layers.Dense(units, "relu", name=f"ffn_{i}_in")(y)
        x = layers.Add()([x, layers.Dense(width, name=f"ffn_{i}_out")(y)])
    return keras.Model(inputs, layers.Dense(final)(x))


def step_time(make_callback, width, units, heads, batch, length, rounds=7, steps=20):
    """Median over rounds of epoch time with the callback by epoch time without."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(batch * steps, length, width)).astype("float32")
    y = draw.normal(size=(batch * steps, length, 8)).astype("float32")

    def run(callbacks):
        model = encoder(2, width, units, heads, length)
        model.compile("adam", "mse")
        watch = Watch()
        # The timer is the last callback, so that the callback's own epoch end is timed too.
        model.fit(x, y, batch_size=batch, epochs=3, verbose=0, callbacks=[*callbacks, watch])
        return min(watch.seconds[1:])

    times = [(run([]), run([make_callback()])) for _ in range(rounds)]
    ratios = [b / a for a, b in times]
    return {
        "width": width,
        "units": units,
        "heads": heads,
        "batch": batch,
        "length": length,
        "ratio_median": float(np.median(ratios)),
        "ratios": ratios,
        "plain_ms_per_step": 1000 * float(np.median([a for a, _ in times])) / steps,
    }


def main():
    options = arguments(__doc__).parse_args()
    sizes, rounds = ((128, 768, 8, 100, 24), (256, 1536, 8, 100, 24)), 3
    if options.smoke:
        smoke_folder()
        sizes, rounds = ((16, 32, 2, 4, 8),), 1
    results = {
        **about(__file__),
        "callbacks": {
            name: [step_time(make, *size, rounds=rounds) for size in sizes]
            for name, make in CALLBACKS.items()
        },
    }
    write("step_time", results, table(results))
    print(table(results))


def table(r):
    first = next(iter(r["callbacks"].values()))
    sizes = [f"d {s['width']} ({s['plain_ms_per_step']:.0f} ms)" for s in first]
    lines = [
        "# Step time with each callback, by step time without",
        "",
        f"Encoder of 2 layers, 8 heads, F = 6 d, 2,400 positions a batch; {in_words(r)}.",
        "",
        f"| callback | {' | '.join(sizes)} | target |",
        "|---|---|---|---|",
    ]
    for name, measured in r["callbacks"].items():
        ratios = " | ".join(f"{m['ratio_median']:.3f}" for m in measured)
        lines.append(f"| {name} | {ratios} | {TARGETS.get(name, 1.15):.2f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
