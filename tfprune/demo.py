"""The main job: a translator from first epoch to smaller files, and what that cost and brought."""

from __future__ import annotations

import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras

from tfprune.extras import require_all
from tfprune.files import atomic_write
from tfprune.measuring.machine import processor, timed_on
from tfprune.progress import stages
from tfprune.reports.plots import pareto, survivors
from tfprune.structures import find_structures
from tfprune.tables import table

_NEEDED = {
    "tensorflow": "export",
    "ai_edge_litert": "export",
    "matplotlib": "plots",
    "num2words": "translation",
    "sacrebleu": "translation",
    "sentencepiece": "translation",
    "tensorflow_text": "translation",
}
# Most of the work is the encoder's, from which more can go than from the decoder.
STUDENT = {
    "encoder_layers": 6,
    "decoder_layers": 1,
    "model_dim": 128,
    "feed_forward_dim": 384,
    "num_heads": 8,
}
_INT8 = " int8"
_REFERENCE = "dense int8"
_LITERT = "ai-edge-litert"


def demo(folder: str | Path = "saved_models", fast: bool = False) -> dict[str, Any]:
    """Trains a translator, prunes it in two ways, exports all, and compares them.

    By importance three quarters of the heads and half of the feed-forward units go, and what reads
    them is fitted to what is left; by group lasso half of the weights of both. All are trained for
    the same number of steps; from pruning on, the pruned ones learn the translations that an int8
    file of the dense model gives of the training text by beam search.

    What is finished is not made again, so a second call continues where the first was stopped.

    Args:
        folder: Where models, pictures and results are written.
        fast: Number words instead of help text: three minutes instead of twenty-five, no download.

    Returns:
        The results, as in `results.json`.

    Raises:
        ValueError: If the folder cannot be written or Keras does not run on TensorFlow.
        ImportError: If packages are missing; it names them all, and the extras that bring them.
    """
    require_all(_NEEDED)  # What is missing is said now, not after the training.
    from tfprune.export import require_tensorflow
    from tfprune.translation.evaluation import paired_bootstrap, score
    from tfprune.translation.speed import words_per_second

    require_tensorflow()
    name = "numbers_en_es" if fast else "help_en_de"
    folder = Path(folder)
    with stages() as tick:
        recipe = _recipe(folder / f".{name}", fast, tick)
        pairs = recipe.held_out("test", 300 if fast else 500)
        models = {"dense": recipe.dense()}
        tick("Exporting")
        files = _export(folder, name, recipe, models)
        teacher = _teacher(recipe, models["dense"])
        smaller = {
            "pruned": recipe.pruned_by("pruned", lambda: _importance(recipe), teacher),
            "group lasso": _group_lasso(recipe, teacher),
        }
        files |= _export(folder, name, recipe, smaller)
        models |= smaller
        scores = {k: recipe.scores(k, model, pairs) for k, model in models.items()}
        tick("Timing")
        timed = {k: str(v) for k, v in files.items() if str(v).endswith(".tflite")}
        # The first is what the others are compared with.
        timed = {_REFERENCE: timed.pop(_REFERENCE), **timed}
        speeds = words_per_second(timed, [s for s, _ in pairs[:100]])
        translations = _translations(files, scores, pairs)
    references = [target for _, target in pairs]
    tests = paired_bootstrap(
        references, translations["dense"], {k: v for k, v in translations.items() if k != "dense"}
    )
    results: dict[str, Any] = {
        "title": f"Translator of {'numbers in words' if fast else 'LibreOffice help'}, "
        f"{recipe.text.source_language} to {recipe.text.target_language}",
        "data": repr(recipe.text),
        "machine": {"processor": processor(), "cores": os.cpu_count()},
        "versions": {_LITERT: version(_LITERT)},
        "test_sentences": len(pairs),
        "epochs": [recipe.pretrained_epochs, recipe.pruning_epochs, recipe.converge_epochs],
        "signatures": [scores["dense"]["bleu_signature"], scores["dense"]["chrf_signature"]],
        "models": {
            label: {
                **score(translations[label], references),
                "p_bleu": tests.get(label, {}).get("bleu_p"),
                "parameters": scores[_model_of(label)]["parameters"],
                "megabytes": Path(timed[label]).stat().st_size / 1e6,
                **speeds[label],
            }
            for label in translations
        },
        "sources": [source for source, _ in pairs[:5]],
        "references": references[:5],
        "translations": {label: each[:5] for label, each in translations.items()},
    }
    total = find_structures(models["dense"])
    left = scores["pruned"]["groups"]
    results["survivors"] = {s.name: [left.get(s.name, 0), s.groups] for s in total}
    results["kinds"] = {s.name: s.kind for s in total}
    draw_survivors(results, folder / f"{name}_survivors.png")
    draw_pareto(results, folder / f"{name}_pareto.png")
    with atomic_write(folder / f"{name}.json") as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n")
    _print(results, folder, name)
    return results


def draw_survivors(results: dict[str, Any], path: str | Path) -> None:
    """Draws what gradient importance leaves in each layer, from the results of `demo`."""
    survivors(
        {layer: (left, total) for layer, (left, total) in results["survivors"].items()},
        path,
        results["kinds"],
        f"{results['title']}\nGroups left by gradient importance",
    )


def draw_pareto(results: dict[str, Any], path: str | Path) -> None:
    """Draws BLEU against speed, from the results of `demo`."""
    # Ratios of neighbouring runs, which a busy machine disturbs less than words per second.
    points = {
        label.replace("pruned", "gradient importance"): (1 / m["time_ratio"], m["bleu"])
        for label, m in results["models"].items()
    }
    title = f"{results['title']}\n{results['test_sentences']} test sentences, one seed"
    if "machine" in results:  # Files of earlier versions do not say.
        title += f"\n{timed_on(results['machine'], results['versions'][_LITERT])}"
    pareto(
        points,
        path,
        x=f"times as fast as {_REFERENCE} (LiteRT, one thread)",
        title=title,
    )


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
        return recipe
    text = libreoffice_help("en", "de", interface_strings=True)
    return Recipe(
        text,
        folder,
        STUDENT,
        vocabulary_size=2000,
        max_words=15,
        tokens_per_batch=1500,  # Twice as many steps as with 3,000, in little more time.
        pretrain_epochs=5,
        prune_epochs=2,
        converge_epochs=5,
        callbacks=callbacks,
    )


def _teacher(recipe, model):
    """The dense model as an int8 file with beam search, which is the fastest that there is."""
    from tfprune.translation.exporting import export_translator
    from tfprune.translation.loading import LiteRTTranslator

    path = recipe.folder / "teacher.tflite"
    if not path.exists():
        export_translator(recipe.translator(model), path, "dynamic_int8", beam=4)
    return LiteRTTranslator(path)


def _importance(recipe):
    """Heads go first: fewer of them save more time than as many weights of units."""
    from tfprune import Sparsity
    from tfprune.callbacks import ImportancePruning

    data = recipe.some_batches(split="train")
    shares = {"heads": 0.75, "ffn": 0.5}
    return [
        ImportancePruning(
            [kind],
            Sparsity(share),
            data,
            repair=data,
            start=0,
            stop=0.4,
            rounds=3,
            verbose=0,
        )
        for kind, share in shares.items()
    ]


def _group_lasso(recipe, teacher):
    from tfprune import Sparsity

    # What is left after 0.6 of the stage recovers.
    return recipe.pruned(
        "group_lasso",
        ["ffn", "heads"],
        teacher=teacher,
        target=Sparsity(0.5),
        stop=0.6,
    )


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
    "pruned_1": "Pruning by importance",
    "pruned": "Converging after importance",
    "group_lasso_1": "Pruning by group lasso",
    "group_lasso": "Converging after group lasso",
}


def _export(folder, name, recipe, models):
    from tfprune.translation.exporting import export_translator

    files = {}
    for label, model in models.items():
        translator = recipe.translator(model)
        stem = f"{name}_{label.replace(' ', '_')}"
        translator.save(folder / f"{stem}.keras")
        for kind, quantize in (("", None), (_INT8, "dynamic_int8")):
            path = folder / f"{stem}{kind.replace(' ', '_')}.tflite"
            files[label + kind] = export_translator(translator, path, quantize)
        export_translator(translator, folder / stem)
    return files


def _model_of(label):
    return label.removesuffix(_INT8)


def _translations(files, scores, pairs):
    """Label to the translations of the test set; int8 files translate a little differently."""
    from tfprune.translation.loading import load_translator

    sources = [source for source, _ in pairs]
    return {
        label: load_translator(path).translate(sources)
        if label.endswith(_INT8)
        else scores[label]["hypotheses"]
        for label, path in files.items()
    }


def _print(results, folder, name):
    columns = ("model", "BLEU", "p", "chrF", "parameters", "MB", "words/s", "time")
    rows = [
        (
            label,
            f"{m['bleu']:.1f}",
            "" if m["p_bleu"] is None else f"{m['p_bleu']:.3f}",
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
    print(table(("layer", "left", "of"), groups, "Groups left by importance"))
    for i, source in enumerate(results["sources"]):
        print(f"\n{source}")
        shown = [("reference", results["references"][i])]
        shown += [(k, each[i]) for k, each in results["translations"].items() if k.endswith(_INT8)]
        for label, text in shown:
            print(f"  {label:<17} {text}")
    print(
        f"\n{results['test_sentences']} test sentences; {results['signatures'][0]}\n"
        "p: of BLEU as far from that of the dense model by chance, paired bootstrap.\n"
        f"words/s: LiteRT, one thread, a sentence at a time; time: by {_REFERENCE}'s, median.\n"
        f"Pictures: {folder / name}_survivors.png, {folder / name}_pareto.png\n"
        f"Try it: tfprune translate {folder / name}_pruned_int8.tflite "
        + ('"forty-two"' if name.startswith("numbers") else '"Select the cells."')
    )
