"""A translator on a CPU: dense and pruned LiteRT files beside CTranslate2, one sentence at a time.

    python benchmarks/device.py            # some hours on two cores; what is there is kept
    python benchmarks/device.py --train    # the students alone, on any backend of Keras

A student with self-attention in its decoder is trained on help text, English to German, and pruned
in two ways for as many steps: by importance with repair, and by group lasso. From pruning on these
two learn the translations that the dense one gives of the training text, without dropout. All are
exported in float and int8, with a shortlist where LiteRT takes one. CTranslate2 gets the weights of
the same dense student, with and without its vocabulary map, which is made of the same shortlist,
and ONNX Runtime the graph of its float file. Sentences are timed in blocks that take turns, each
after a call that is not timed. Results are written to benchmarks/results/device.{json,md,png}
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import smoke
from reports import about, arguments, in_words, result, smoke_folder, write
from translators import STUDENT, p_value

HERE = Path(__file__).parent
SHAPE = {**STUDENT, "decoder": "self_attention"}
SIZES = {
    "vocabulary_size": 4000,
    "max_words": 15,
    "pretrain_epochs": 7,
    "prune_epochs": 4,
    "converge_epochs": 3,
}
SPARSITIES = {"heads": 0.75, "ffn": 0.5}
LASSO_SPARSITY = 0.6
REFERENCE = "CTranslate2 int8"
BATCH = 32
BASELINE = "dense float"  # With which BLEU is compared.


def recipe_of(folder, tiny):
    """The `Recipe` of the students."""
    from progress import Log

    from tfprune.datasets import libreoffice_help
    from tfprune.translation.recipe import Recipe

    shape, sizes = SHAPE, SIZES
    if tiny:
        shape = {**smoke.STUDENT, "decoder": "self_attention"}
        sizes = {"max_words": 15, **smoke.TRAINING}
    return Recipe(
        smoke.pairs() if tiny else libreoffice_help("en", "de", interface_strings=True),
        folder,
        shape,
        **sizes,
        callbacks=lambda stage, epochs: [Log(stage)],
    )


def students(recipe):
    """Name to student: dense, and pruned in each way."""
    import tfprune
    from tfprune.callbacks import ImportancePruning

    def by_importance():
        data = recipe.some_batches(split="train")
        return [
            ImportancePruning(
                [kind], tfprune.Sparsity(share), data, repair=data, start=0, verbose=0
            )
            for kind, share in SPARSITIES.items()
        ]

    dense = recipe.dense()
    taught = {"teacher": recipe.translator(dense), "dropout": False}
    lasso = {"target": tfprune.Sparsity(LASSO_SPARSITY), "stop": 0.6}
    return {
        "dense": dense,
        "importance": recipe.pruned_by("importance", by_importance, **taught),
        "group_lasso": recipe.pruned("group_lasso", ["ffn", "heads"], **taught, **lasso),
    }


def files_of(recipe, models, shortlist, folder, tiny):
    """Label to what a process needs to translate: kind, path and options."""
    from tfprune.translation import Translator, export_translator

    found = {}
    for name, model in models.items():
        for listed in (None, shortlist):
            translator = Translator(model, recipe.vocabulary(), recipe.max_length, listed)
            for kind, quantize in (("float", None), ("int8", "dynamic_int8")):
                label = f"{name} {kind}" + (", shortlist" if listed else "")
                if tiny and label not in (BASELINE, *SHOWN, "dense int8", "importance int8"):
                    continue
                path = folder / f"{label.replace(', ', '_').replace(' ', '_')}.tflite"
                if not path.exists():
                    export_translator(translator, path, quantize)
                found[label] = {"engine": "litert", "path": str(path)}
    from ctranslate2_model import convert

    path = folder / "ctranslate2"
    if not path.exists():
        convert(models["dense"], recipe.vocabulary(), path, recipe.max_length, shortlist)
    for compute, name in (("float32", "float"), ("int8", "int8")):
        for use_map in (False, True):
            label = f"CTranslate2 {name}" + (", map" if use_map else "")
            found[label] = {
                "engine": "ctranslate2",
                "path": str(path),
                "compute": compute,
                "use_map": use_map,
                "max_length": recipe.max_length,
                "vocabulary": str(recipe.folder / "vocabulary.model"),
            }
    paths = {name: folder / f"{name}.onnx" for name in ("float", "int8")}
    if not paths["int8"].exists():
        from onnx_translator import convert as convert_to_onnx

        convert_to_onnx(recipe.translator(models["dense"]), paths["float"], paths["int8"])
    for name, path in paths.items():
        found[f"ONNX Runtime {name}"] = {"engine": "onnx", "path": str(path)}
    return found


def opened(file, threads):
    """A function of the ids of a sentence that gives those of its translation."""
    if file["engine"] == "litert":
        from tfprune.translation.loading import LiteRTTranslator

        translator = LiteRTTranslator(file["path"], threads)
        return lambda ids: translator.words(ids)[0].tolist()
    if file["engine"] == "onnx":
        from onnx_translator import Engine as OnnxEngine

        return OnnxEngine(file["path"], threads).words
    from ctranslate2_model import Engine

    from tfprune.translation.vocabulary import Vocabulary

    engine = Engine(
        file["path"],
        Vocabulary.load(file["vocabulary"]),
        file["compute"],
        file["max_length"],
        threads,
        file["use_map"],
    )
    return engine.words


def race(files, sources, threads, rounds):
    """Seconds of each sentence, label to array `(rounds, sentences)`."""
    engines = {label: opened(file, threads) for label, file in files.items()}
    times = {label: np.empty((rounds, len(sources))) for label in files}
    for turn in range(rounds):
        for label, engine in engines.items():
            engine(sources[0])  # Its weights come back into the cache.
            for i, ids in enumerate(sources):
                started = time.perf_counter()
                engine(ids)
                times[label][turn, i] = time.perf_counter() - started
    return times


def alone(file, ids):
    """Start-up time and memory of one engine; for a process of its own, prints them."""

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    if file["engine"] == "litert":  # Libraries are no part of it.
        import tfprune.translation.loading  # noqa: F401
    elif file["engine"] == "onnx":
        import onnx_translator  # noqa: F401
    else:
        import ctranslate2_model  # noqa: F401
    before, started = resident(), time.perf_counter()
    opened(file, 1)(ids)
    figures = {"startup": time.perf_counter() - started, "resident": resident() - before}
    print(json.dumps(figures))


def in_a_process(file, ids):
    """What `alone` prints."""
    command = [sys.executable, __file__, "--alone", json.dumps([file, ids])]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(said.splitlines()[-1])


def size_of(path):
    """Bytes of a file or a folder, without vocabularies."""
    path = Path(path)
    files = [path] if path.is_file() else [path / "model.bin"]
    return sum(file.stat().st_size for file in files)


def measured(recipe, models, files, tiny):
    """The figures of each file."""
    from tfprune.translation import paired_bootstrap, score

    pairs = recipe.held_out("test", 30 if tiny else 500)
    vocabulary = recipe.vocabulary()
    encoded = [[*ids, vocabulary.end_id] for ids in vocabulary.encode_all([s for s, _ in pairs])]
    references = [target for _, target in pairs]
    timed = encoded[: 5 if tiny else 100]
    words = sum(len(source.split()) for source, _ in pairs[: len(timed)])
    rows = {}
    for label, file in files.items():
        translate = opened(file, 1)
        hypotheses = [vocabulary.decode(translate(ids)) for ids in encoded]
        if not tiny or not rows:  # Libraries take seconds to import.
            alone_too = in_a_process(file, timed[0])
        rows[label] = {
            **score(hypotheses, references),
            "hypotheses": hypotheses,
            "bytes": size_of(file["path"]),
            **alone_too,
        }
    others = {label: row["hypotheses"] for label, row in rows.items() if label != BASELINE}
    tests = paired_bootstrap(references, rows[BASELINE]["hypotheses"], others)
    for label, row in rows.items():
        row["p_bleu"] = tests.get(label, {}).get("bleu_p")
        row["hypotheses"] = row["hypotheses"][:5]
    for threads in (1, 2):
        times = race(files, timed, threads, 2 if tiny else 7)
        for label, seconds in times.items():
            by = {}
            for other in (REFERENCE, f"{REFERENCE}, map", "dense int8", "dense int8, shortlist"):
                by[other] = float(np.median(seconds / times[other]))
            rows[label][f"{threads} threads"] = {
                "words_per_second": float(np.median(words / seconds.sum(axis=1))),
                "microseconds": float(1e6 * np.median(seconds)),
                "by": by,
            }
    for label, row in rows.items():
        if label.split()[0] in models:
            row["parameters"] = models[label.split()[0]].count_params()
    return rows, pairs


def batched(recipe, models, files, folder, tiny):
    """Words per second of engines that take several sentences at a time, at 1 and 32."""
    from tfprune.translation import Translator, export_translator, load_translator

    pairs = recipe.held_out("test", 8 if tiny else 2 * BATCH)
    sentences = [source for source, _ in pairs]
    engines = {}
    for name in ("dense", "importance"):
        translator = Translator(models[name], recipe.vocabulary(), recipe.max_length)
        path = folder / f"{name}_saved"
        if not path.exists():
            export_translator(translator, path)
        engines[f"{name}, Keras"] = translator
        engines[f"{name}, SavedModel"] = load_translator(path)
        engines[f"{name} int8, LiteRT, one by one"] = load_translator(files[f"{name} int8"]["path"])
    engines[REFERENCE] = OfText(files[REFERENCE], recipe.vocabulary())
    sizes = (1, BATCH)
    times = {label: {size: [] for size in sizes} for label in engines}
    for turn in range(2 if tiny else 6):
        for label, engine in engines.items():
            for size in sizes:
                started = time.perf_counter()
                for i in range(0, len(sentences), size):
                    engine.translate(sentences[i : i + size])
                if turn:  # The first call compiles.
                    times[label][size].append(time.perf_counter() - started)
    words = sum(len(sentence.split()) for sentence in sentences)
    return {
        label: {str(size): words / float(np.median(seconds)) for size, seconds in each.items()}
        for label, each in times.items()
    }


class OfText:
    """CTranslate2 from text to text.

    Args:
        file: What `files_of` gives for it.
        vocabulary: The vocabulary.
    """

    def __init__(self, file, vocabulary):
        self.vocabulary = vocabulary
        self.engine = opened(file, 1).__self__

    def translate(self, sentences):
        """One translation for each sentence."""
        ids = [[*ids, self.vocabulary.end_id] for ids in self.vocabulary.encode_all(sentences)]
        return [self.vocabulary.decode(each) for each in self.engine.translate_all(ids)]


def table(results):
    """The results in Markdown."""
    sizes, rows = results["sizes"], results["models"]
    lines = [
        "# A translator on a CPU",
        "",
        f"English to German help text, {sizes['test_pairs']} test sentences; student of "
        f"{sizes['encoder_layers']} encoder layers and {sizes['decoder_layers']} decoder layer "
        f"with self-attention, width {sizes['model_dim']}, {sizes['feed_forward_dim']} units, "
        f"{sizes['num_heads']} heads, {sizes['vocabulary']:,} pieces; by importance "
        f"{sizes['sparsities']['heads']:.0%} of the heads and {sizes['sparsities']['ffn']:.0%} of "
        f"the units are pruned, by group lasso {sizes['lasso_sparsity']:.0%} of both; "
        f"{in_words(results)}; one sentence at a time.",
        f"{results['signatures'][0]}; {results['signatures'][1]}.",
        "",
        "| file | BLEU | p | chrF | words/s | µs a sentence | time by CTranslate2 int8 | "
        "by dense int8 | on two threads, by CTranslate2 int8 | MB | resident MB | start-up ms |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for label, m in rows.items():
        one, two = m["1 threads"], m["2 threads"]
        listed = label.endswith((", shortlist", ", map"))
        reference = f"{REFERENCE}, map" if listed else REFERENCE
        dense = "dense int8, shortlist" if listed else "dense int8"
        lines.append(
            f"| {label} | {m['bleu']:.1f} | {p_value(m)} | {m['chrf']:.1f} | "
            f"{one['words_per_second']:,.0f} | {one['microseconds']:,.0f} | "
            f"{one['by'][reference]:.2f} | {one['by'][dense]:.2f} | "
            f"{two['by'][reference]:.2f} | {m['bytes'] / 1e6:.2f} | {m['resident'] / 1e6:.1f} | "
            f"{1e3 * m['startup']:.0f} |"
        )
    lines += [
        "",
        "Times by others: medians of the ratios sentence by sentence. Files with a shortlist are "
        "compared with CTranslate2 with its map, and with the dense file with one. p: of BLEU as "
        "far from that of the dense float file by chance, paired bootstrap. Resident memory and "
        "start-up: of one process, up to the first translation, libraries not counted.",
        "",
        "Words per second, several sentences at a time:",
        "",
        "| engine | one | " + f"{BATCH} |",
        "|---|---|---|",
        *(
            f"| {label} | {each['1']:,.0f} | {each[str(BATCH)]:,.0f} |"
            for label, each in results["batches"].items()
        ),
        "",
        "| source | " + " | ".join(SHOWN) + " |",
        "|" + "---|" * (1 + len(SHOWN)),
    ]
    for i, source in enumerate(results["sources"]):
        cells = [rows[label]["hypotheses"][i] for label in SHOWN]
        lines.append("| " + " | ".join([source, *cells]) + " |")
    return "\n".join(lines) + "\n"


SHOWN = ("dense float", "dense int8, shortlist", "importance int8, shortlist")


def main():
    """Trains, exports, measures and reports."""
    parser = arguments(__doc__)
    parser.add_argument("--folder", type=Path, default=HERE / "checkpoints" / "device")
    parser.add_argument("--train", action="store_true", help="train, and measure nothing")
    parser.add_argument("--alone", help="start-up and memory of one file; prints figures")
    options = parser.parse_args()
    if options.alone:
        alone(*json.loads(options.alone))
        return
    folder = smoke_folder() if options.smoke else options.folder
    recipe = recipe_of(folder, options.smoke)
    models = students(recipe)
    if options.train:
        return
    from drawings.translators import device as draw

    from tfprune.translation import Shortlist

    shortlist = Shortlist.train(recipe.train_pairs, recipe.vocabulary())
    files = files_of(recipe, models, shortlist, folder, options.smoke)
    rows, pairs = measured(recipe, models, files, options.smoke)
    results = {
        **about(__file__, "ai-edge-litert", "ctranslate2", "sacrebleu"),
        "sizes": {
            **recipe.shape,
            "vocabulary": len(recipe.vocabulary()),
            "training_pairs": len(recipe.train_pairs),
            "test_pairs": len(pairs),
            "sparsities": SPARSITIES,
            "lasso_sparsity": LASSO_SPARSITY,
        },
        "batches": batched(recipe, models, files, folder, options.smoke),
        "signatures": [rows[BASELINE]["bleu_signature"], rows[BASELINE]["chrf_signature"]],
        "sources": [source for source, _ in pairs[:5]],
        "models": rows,
    }
    write("device", results, table(results))
    draw(results, result("device.png"))


if __name__ == "__main__":
    main()
