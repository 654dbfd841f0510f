"""The main job: a translator from first epoch to smaller files, and what that cost and brought."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from tfprune.extras import require
from tfprune.files import atomic_write
from tfprune.reports.plots import pareto, survivors
from tfprune.structures import find_structures
from tfprune.tables import table

_NEEDED = {
    "matplotlib": "plots",
    "num2words": "translation",
    "sacrebleu": "translation",
    "sentencepiece": "translation",
    "tensorflow_text": "translation",
}


def demo(folder: str | Path = "saved_models", fast: bool = False) -> dict[str, Any]:
    """Trains a translator, prunes it by group lasso, exports both, and compares them.

    What is finished is not made again, so a second call continues where the first was stopped.

    Args:
        folder: Where models, pictures and results are written.
        fast: Number words instead of help text: three minutes instead of twenty, no download.

    Returns:
        The results, as in `results.json`.

    Raises:
        ValueError: If the folder cannot be written or Keras does not run on TensorFlow.
        ImportError: If a package is missing that the extras `translation` and `plots` bring.
    """
    from tfprune.export import require_tensorflow
    from tfprune.translation.speed import words_per_second

    require_tensorflow()
    for module, extra in _NEEDED.items():  # What is missing is said now, not after the training.
        require(module, extra)
    name = "numbers_en_es" if fast else "help_en_de"
    folder = Path(folder)
    with _progress() as tick:
        recipe, lasso = _recipe(folder / f".{name}", fast, tick)
        pairs = recipe.held_out("test", 300 if fast else 500)
        models = {"dense": recipe.dense(), "pruned": recipe.pruned("pruned", **lasso)}
        scores = {k: recipe.scores(k, model, pairs) for k, model in models.items()}
        tick("Exporting")
        files = _export(folder, name, recipe, models)
        tick("Timing")
        timed = {k: str(v) for k, v in files.items() if str(v).endswith(".tflite")}
        speeds = words_per_second(timed, [s for s, _ in pairs[:100]])
    results: dict[str, Any] = {
        "data": repr(recipe.text),
        "test_sentences": len(pairs),
        "epochs": [recipe.pretrained_epochs, recipe.pruning_epochs, recipe.converge_epochs],
        "signatures": [scores["dense"]["bleu_signature"], scores["dense"]["chrf_signature"]],
        "models": {
            label: {
                "bleu": scores[label.split()[0]]["bleu"],
                "chrf": scores[label.split()[0]]["chrf"],
                "parameters": scores[label.split()[0]]["parameters"],
                "megabytes": Path(path).stat().st_size / 1e6,
                **speeds[label],
            }
            for label, path in timed.items()
        },
    }
    # The int8 files translate a little differently; they are scored as they are.
    _score_int8(results, timed, pairs)
    total = {s.name: (s.groups, s.kind) for s in find_structures(models["dense"])}
    left = scores["pruned"]["groups"]
    results["survivors"] = {k: [left.get(k, 0), n] for k, (n, _) in total.items()}
    survivors(
        {k: tuple(v) for k, v in results["survivors"].items()},
        folder / f"{name}_survivors.png",
        {k: kind for k, (_, kind) in total.items()},
    )
    # Ratios of neighbouring runs, which a busy machine disturbs less than words per second.
    points = {k: (1 / m["time_ratio"], m["bleu"]) for k, m in results["models"].items()}
    pareto(points, folder / f"{name}_pareto.png", x="speed against dense (LiteRT, one thread)")
    with atomic_write(folder / f"{name}.json") as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n")
    _print(results, folder, name)
    return results


def _recipe(folder, fast, tick):
    from tfprune.datasets import libreoffice_help, number_words
    from tfprune.translation.recipe import Recipe

    def callbacks(stage, epochs):
        return [_Tick(tick, stage, epochs)]

    if fast:
        text = number_words("en", "es", count=8000)  # German numbers are one word: no BLEU
        shape: dict[str, Any] = {
            "encoder_layers": 2,
            "decoder_layers": 1,
            "model_dim": 64,
            "feed_forward_dim": 256,
            "num_heads": 4,
        }
        recipe = Recipe(
            text,
            folder,
            shape,
            vocabulary_size=350,
            pretrain_epochs=4,
            prune_epochs=6,
            converge_epochs=2,
            tokens_per_batch=2000,
            callbacks=callbacks,
        )
        return recipe, {"structures": ["ffn", "heads"], "strength": 5e-4, "check_every": 5}
    text = libreoffice_help("en", "de", interface_strings=True)
    shape = {
        "encoder_layers": 4,
        "decoder_layers": 1,
        "model_dim": 128,
        "feed_forward_dim": 768,
        "num_heads": 8,
        "dropout": 0.1,
    }
    recipe = Recipe(
        text,
        folder,
        shape,
        vocabulary_size=2000,
        max_words=15,
        pretrain_epochs=9,
        prune_epochs=7,
        converge_epochs=4,
        callbacks=callbacks,
    )
    return recipe, {
        "structures": ["ffn", "heads"],
        "strength": 0.25,
        "words_per_batch": 2400,
        "stop": 0.6,  # What is left recovers.
    }


class _Tick(keras.callbacks.Callback):
    """Tells the progress display where training is."""

    def __init__(self, tick, stage, epochs):
        super().__init__()
        self.tick = tick
        self.stage = _STAGES.get(stage, stage)
        self.epochs = epochs

    def on_train_begin(self, logs=None):
        self.epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        share = (batch + 1) / self.params["steps"]
        detail = f"epoch {self.epoch + 1} of {self.epochs}, loss {float(logs['loss']):.2f}"
        self.tick(self.stage, (self.epoch + share) / self.epochs, detail, note=share == 1)


_STAGES = {
    "pretrained": "Training",
    "dense_1": "Dense, as long as pruning",
    "dense": "Dense, as long as converging",
    "pruned_1": "Pruning",
    "pruned": "Converging after the rebuild",
}


@contextmanager
def _progress():
    """Yields a function `(stage, done, detail, note)` that draws one bar for each stage.

    Where nobody looks at a terminal, it prints a line for what is worth a `note` instead.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<30}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}"),
    )
    console = Console()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        tasks: dict[str, Any] = {}

        def tick(stage, done=None, detail="", note=True):
            if note and not console.is_terminal:
                print(f"{stage:<30} {detail}".rstrip(), flush=True)
            if stage not in tasks:
                tasks[stage] = progress.add_task(
                    stage, total=None if done is None else 1.0, detail=detail
                )
            progress.update(tasks[stage], completed=done or 0, detail=detail)

        yield tick


def _export(folder, name, recipe, models):
    from tfprune.translation.exporting import export_translator

    files = {}
    for label, model in models.items():
        translator = recipe.translator(model)
        translator.save(folder / f"{name}_{label}.keras")
        for kind, quantize in (("", None), (" int8", "dynamic_int8")):
            path = folder / f"{name}_{label}{kind.replace(' ', '_')}.tflite"
            files[label + kind] = export_translator(translator, path, quantize)
        export_translator(translator, folder / f"{name}_{label}")
    return files


def _score_int8(results, timed, pairs):
    from tfprune.translation.evaluation import evaluate
    from tfprune.translation.loading import load_translator

    for label, path in timed.items():
        if label.endswith("int8"):
            result = evaluate(load_translator(path), pairs)
            results["models"][label].update(bleu=result["bleu"], chrf=result["chrf"])


def _print(results, folder, name):
    columns = ("model", "BLEU", "chrF", "parameters", "MB", "words/s", "time")
    rows = [
        (
            label,
            f"{m['bleu']:.1f}",
            f"{m['chrf']:.1f}",
            m["parameters"],
            f"{m['megabytes']:.2f}",
            f"{m['words_per_second']:,.0f}",
            f"{m['time_ratio']:.2f}",
        )
        for label, m in results["models"].items()
    ]
    print(table(columns, rows, "After the same number of steps"))
    groups = [(layer, left, total) for layer, (left, total) in results["survivors"].items()]
    print(table(("layer", "left", "of"), groups, "Groups left"))
    print(
        f"{results['test_sentences']} test sentences; {results['signatures'][0]}\n"
        "words/s: LiteRT, one thread, one sentence at a time; time: against dense, median.\n"
        f"Pictures: {folder / name}_survivors.png, {folder / name}_pareto.png\n"
        f"Try it: tfprune translate {folder / name}_pruned_int8.tflite "
        + ('"forty-two"' if name.startswith("numbers") else '"Select the cells."')
    )
