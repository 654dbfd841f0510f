"""A pretrained language model, pruned without training: which criterion, and what fitting brings.

    python benchmarks/language_model.py                   # all; two hours on two cores
    python benchmarks/language_model.py --sparsities 0.3 --criteria activation

SmolLM2-135M, as it comes from its GGUF file, is pruned by `tfprune.prune` on English passages of
LibreOffice's help: by three criteria, each without repair and with least squares. It is judged by
the cross-entropy of a token in passages of other pages. Each run is a process of its own, so that
its memory can be told. What is finished is not made again. Results are written to
benchmarks/results/language_model.{json,md} after each run.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import keras
import keras_hub
import numpy as np
from keras import ops
from paired import in_loss
from reports import about, arguments, in_words, smoke_folder, write
from small_minilm import left, once
from without_training import REPAIRS, runs

import tfprune
from tfprune.datasets import libreoffice_help, llama_from_gguf, smollm2

HERE = Path(__file__).parent
CRITERIA = ("activation", "reconstruction", "gradient_importance")
SPARSITIES = (0.2, 0.3, 0.5)
TRAINING, TEST, LENGTH = 128, 64, 64  # Passages, and tokens in each.
BATCH = 8
TINY = {
    "vocabulary_size": 40,
    "num_layers": 2,
    "num_query_heads": 4,
    "num_key_value_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 24,
    "tie_word_embeddings": True,
}
GIGABYTE = 1024**2  # In what Linux counts in.


RUNS = runs(CRITERIA, ("nothing", "least squares"), SPARSITIES)


def passages(tokenizer, pairs, number):
    """English sentences one after the other, cut to equal lengths: `(number, LENGTH + 1)`."""
    tokens: list[int] = []
    for sentence, _ in pairs:
        tokens += np.asarray(tokenizer(f" {sentence}")).tolist()
    return np.reshape(tokens[: number * (LENGTH + 1)], (number, LENGTH + 1))


def pretrained(tiny):
    """The language model, passages to prune on, and passages to judge by."""
    if tiny:
        keras.utils.set_random_seed(0)
        backbone = keras_hub.models.Llama3Backbone(**TINY)
        model = keras_hub.models.Llama3CausalLM(backbone, preprocessor=None)
        draw = np.random.default_rng(0)
        return model, *draw.integers(0, TINY["vocabulary_size"], (2, 8, 9))
    model, text = llama_from_gguf(smollm2()), libreoffice_help("en", "de")
    # A sentence has rarely more than 40 tokens, and rarely less than 6.
    splits = ((text.train, TRAINING), (text.test, TEST))
    encode = model.preprocessor.tokenizer
    return model, *(passages(encode, pairs[: 12 * number], number) for pairs, number in splits)


def next_tokens(tokens):
    """What the model takes, and the token that follows each."""
    x = tokens[:, :-1]
    return {"token_ids": x, "padding_mask": np.ones_like(x)}, tokens[:, 1:]


def losses(model, tokens):
    """The mean cross-entropy of a token in each passage."""
    found = []
    for start in range(0, len(tokens), BATCH):
        x, y = next_tokens(tokens[start : start + BATCH])
        loss = keras.losses.sparse_categorical_crossentropy(y, model(x), from_logits=True)
        found += ops.convert_to_numpy(ops.mean(loss, axis=-1)).tolist()
    return found


def figures(name, tiny):
    """What one run gives: the loss in each passage, weights, seconds and memory."""
    model, train, test = pretrained(tiny)
    started, more = time.perf_counter(), {}
    if name != "dense":
        criterion, repair, sparsity = RUNS[name]
        model = tfprune.prune(
            model,
            tfprune.Sparsity(sparsity),
            next_tokens(train),
            criterion=criterion,
            repair=REPAIRS[repair],
            verbose=0,
        )
        more = {
            "seconds": time.perf_counter() - started,
            "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIGABYTE,
        }
    sizes = left(model)
    return {"each": losses(model, test), "parameters": model.count_params(), **sizes, **more}


def results_of(runs):
    """What is kept of each run, and how its loss differs from that of the dense model."""
    rows = {}
    for name, run in runs.items():
        change = np.subtract(run["each"], runs["dense"]["each"])
        rows[name] = {
            "loss": float(np.mean(run["each"])),
            "perplexity": float(np.exp(np.mean(run["each"]))),
            "against_dense": [float(change.mean()), float(change.std(ddof=1) / len(change) ** 0.5)],
            **{key: value for key, value in run.items() if key != "each"},
        }
    sizes = {"training": TRAINING, "test": len(runs["dense"]["each"]), "length": LENGTH}
    return {**about(__file__, "keras-hub"), "sizes": sizes, "models": rows}


def table(results):
    """The results in Markdown."""
    sizes, models = results["sizes"], results["models"]
    dense = models["dense"]
    lines = [
        "# A language model, pruned without training",
        "",
        f"SmolLM2-135M-Instruct (Llama architecture, {dense['parameters'] / 1e6:.1f}M parameters, "
        f"{dense['weights'] / 1e6:.1f}M of them in units and heads), pruned on "
        f"{sizes['training']} English passages of {sizes['length']} tokens, judged by "
        f"{sizes['test']} others; {in_words(results)}. Dense: cross-entropy of a token "
        f"{dense['loss']:.3f}, perplexity {dense['perplexity']:.1f}.",
        "",
        "| removed | criterion | repair | loss | against dense | perplexity | parameters | seconds "
        "| GB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, (criterion, repair, sparsity) in RUNS.items():
        if name not in models:
            continue
        m = models[name]
        change = in_loss((*m["against_dense"], 1))
        lines.append(
            f"| {sparsity:.0%} | {criterion} | {repair} | {m['loss']:.3f} | {change} | "
            f"{m['perplexity']:.1f} | {m['parameters'] / 1e6:.1f}M | {m['seconds']:.0f} | "
            f"{m['gigabytes']:.1f} |"
        )
    lines += [
        "",
        "removed: of the weights of units and heads. against dense: the difference of the loss "
        "with its standard error over the passages; bold where it is more than two of them. "
        "seconds: of `tfprune.prune`, beside other work. GB: the most memory that its process had.",
    ]
    return "\n".join(lines) + "\n"


def report(folder):
    """Reports all that is finished."""
    paths = {name: folder / f"{name}.json" for name in ("dense", *RUNS)}
    runs = {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}
    results = results_of(runs)
    write("language_model", results, table(results))


def main():
    """Makes the runs, and writes the report after each."""
    parser = arguments(__doc__)
    parser.add_argument("--sparsities", nargs="+", type=float, default=list(SPARSITIES))
    parser.add_argument("--criteria", nargs="+", choices=CRITERIA, default=list(CRITERIA))
    parser.add_argument("--run", choices=("dense", *RUNS), help="only this one, without a report")
    parser.add_argument("--folder", type=Path, default=HERE / "checkpoints" / "language_model")
    options = parser.parse_args()
    if options.run:
        path = options.folder / f"{options.run}.json"
        once(path, lambda: figures(options.run, options.smoke))
        return
    folder, tiny = options.folder, ["--smoke"] if options.smoke else []
    if options.smoke:
        folder, options.sparsities, options.criteria = smoke_folder(), [0.5], ["activation"]
    chosen = [
        name
        for name, (c, _, s) in RUNS.items()
        if c in options.criteria and s in options.sparsities
    ]
    for name in ("dense", *chosen):
        command = [sys.executable, __file__, "--run", name, "--folder", str(folder), *tiny]
        if not (folder / f"{name}.json").exists():
            print(name, flush=True)
            subprocess.run(command, check=True)
        report(folder)


if __name__ == "__main__":
    main()
