"""What group lasso costs and what rebuilding brings.

    python benchmarks/group_lasso.py

Step time with and without the callback, in turn; rebuild time and peak memory of a BERT-base-sized
encoder, in a process of its own; LiteRT time against FLOPs. Writes benchmarks/results/group_lasso.*
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers
from reports import about, arguments, in_words, smoke_folder, write
from step_time import CALLBACKS, encoder, step_time

import tfprune

# Width, units, heads, batch, length and rounds of the models whose steps are timed.
SIZES = (
    (128, 768, 8, 100, 24, 7),  # The recipe's 2,400 words a batch.
    (256, 1536, 8, 100, 24, 4),
    (128, 768, 8, 16, 24, 7),
)
TINY = ((16, 32, 2, 4, 8, 1),)


def rebuild_large(tiny=False):
    """Rebuilds a BERT-base-sized encoder; prints seconds and peak memory."""
    # 12 layers of 7.1 million weights; embeddings of 30,522 x 768 as one dense layer's worth.
    tokens, depth, width, heads = (64, 1, 16, 2) if tiny else (30_522, 12, 768, 12)
    ids = keras.Input((None,), dtype="int32")
    x = layers.Embedding(tokens, width)(ids)
    model = keras.Model(ids, encoder(depth, width, 4 * width, heads)(x))
    for s in tfprune.find_structures(model):
        s.scale((np.arange(s.groups) % 2).astype("float32"))
    size = 4 * model.count_params()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    start = time.perf_counter()
    small = tfprune.rebuild(model)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        json.dumps(
            {
                "parameters": model.count_params(),
                "parameters_after": small.count_params(),
                "seconds": seconds,
                "peak_growth_bytes": peak - before,
                # The model itself and what came on top, by the model's bytes.
                "memory_ratio": (size + peak - before) / size,
            }
        )
    )


def speed(tiny=False):
    """LiteRT time ratio against FLOP ratio for several cuts."""
    model = encoder(1, 32, 64, 4) if tiny else encoder(4, 256, 1024, 8)
    rows = []
    cuts = {
        "half the units": (0.5, 1.0),
        "half the heads": (1.0, 0.5),
        "a third of both": (1 / 3, 1 / 3),
        "a quarter of both": (0.25, 0.25),
    }
    models = [model]
    for ffn, heads in cuts.values():
        keep = {}
        for s in tfprune.find_structures(model):
            share = ffn if s.kind == "ffn" else heads
            keep[s.name] = np.arange(s.groups) < max(1, round(share * s.groups))
        models.append(tfprune.rebuild(model, keep=keep))
    timed = tfprune.compare_latency(models, sequence_length=128, runs=5 if tiny else 40)
    flops = [tfprune.count_flops(m, sequence_length=128) for m in models]
    for name, ratio, count in zip(cuts, timed.ratios[1:], flops[1:], strict=True):
        ideal = count / flops[0]
        rows.append({"cut": name, "flops": ideal, "time": ratio, "share_of_ideal": ideal / ratio})
    return rows


def main():
    parser = arguments(__doc__)
    parser.add_argument("--rebuild-only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rebuild_only:
        rebuild_large(options.smoke)
        return
    command = [sys.executable, __file__, "--rebuild-only", *["--smoke"] * options.smoke]
    large = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lasso = CALLBACKS["GroupLasso"]
    results = {
        **about(__file__, "ai-edge-litert"),
        "step_time": [step_time(lasso, *sizes) for sizes in (TINY if options.smoke else SIZES)],
        "rebuild": json.loads(large.strip().splitlines()[-1]),
        "litert": speed(options.smoke),
    }
    if options.smoke:
        smoke_folder()
    write("group_lasso", results, table(results))
    print(table(results))


def table(r):
    lines = [
        "# Group lasso: cost and effect",
        "",
        f"{in_words(r)}.",
        "",
        "| what | measured | target |",
        "|---|---|---|",
    ]
    for s in r["step_time"]:
        lines.append(
            f"| step time with / without the callback, d {s['width']}, batch {s['batch']} x "
            f"{s['length']} ({s['plain_ms_per_step']:.0f} ms) | {s['ratio_median']:.3f} | 1.05 |"
        )
    b = r["rebuild"]
    lines += [
        f"| rebuild of {b['parameters'] / 1e6:.0f}M parameters | {b['seconds']:.1f} s | 15 s |",
        f"| peak memory, of the model's bytes | {b['memory_ratio']:.2f} | 2.5 |",
        "",
        "LiteRT, one thread, batch 1, 128 positions; encoder of 4 layers, d 256, F 1024, 8 heads:",
        "",
        "| left | FLOPs | time | share of the ideal speed-up |",
        "|---|---|---|---|",
    ]
    for s in r["litert"]:
        lines.append(
            f"| {s['cut']} | {s['flops']:.2f} | {s['time']:.2f} | {s['share_of_ideal']:.0%} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
