"""What a shortlist costs in BLEU and saves in time, for three pairs of languages.

    python benchmarks/shortlists.py                     # all; about 40 minutes on two cores
    python benchmarks/shortlists.py --targets de        # English to German alone
    python benchmarks/shortlists.py --train             # the students, on any backend of Keras

A student for each pair is trained on help text and translates the test set with all pieces of its
vocabulary and with a shortlist that is learned from the same training text, by LiteRT files in
float and int8. Files take turns sentence by sentence. Pairs that are finished are not made again.
Results are written to benchmarks/results/shortlists.{json,md} after each.
"""

import json
import time
from pathlib import Path

import smoke
from progress import Log
from reports import about, arguments, in_words, smoke_folder, write
from translators import STUDENT, p_value

from tfprune.datasets import libreoffice_help
from tfprune.files import atomic_write
from tfprune.translation import (
    Shortlist,
    Translator,
    export_translator,
    load_translator,
    paired_bootstrap,
    score,
    words_per_second,
)
from tfprune.translation.recipe import Recipe

HERE = Path(__file__).parent
TARGETS = ("de", "es", "fr")
SHAPE = {**STUDENT, "dropout": 0.0}  # With so few epochs dropout costs BLEU.
SIZES = {
    "vocabulary_size": 4000,
    "max_words": 15,
    "tokens_per_batch": 1500,
    "pretrain_epochs": 5,
    "prune_epochs": 0,
    "converge_epochs": 2,
}
KINDS = {"float": None, "int8": "dynamic_int8"}


def recipe_of(folder, target, tiny):
    """The `Recipe` of a student."""
    text = smoke.pairs() if tiny else libreoffice_help("en", target)
    shape = smoke.STUDENT if tiny else SHAPE
    sizes = {"max_words": 15, **smoke.TRAINING} if tiny else SIZES
    callbacks = lambda stage, epochs: [Log(f"{target} {stage}")]  # noqa: E731
    return Recipe(text, folder / target, shape, **sizes, callbacks=callbacks)


def student_of(recipe):
    """The trained student."""
    return recipe.converged("dense", recipe.pretrained)


def figures_of(recipe, tiny):
    """BLEU, time and bytes of a student with all pieces and with a shortlist."""
    model = student_of(recipe)
    started = time.perf_counter()
    shortlist = Shortlist.train(recipe.train_pairs, recipe.vocabulary())
    seconds = time.perf_counter() - started
    pairs = recipe.held_out("test", 20 if tiny else 1000)
    sources, references = ([pair[i] for pair in pairs] for i in (0, 1))
    files, translations = {}, {}
    for kind, quantize in KINDS.items():
        for name, listed in (("all pieces", None), ("shortlist", shortlist)):
            translator = Translator(model, recipe.vocabulary(), recipe.max_length, listed)
            path = recipe.folder / f"{kind}_{name.replace(' ', '_')}.tflite"
            files[f"{kind}, {name}"] = str(export_translator(translator, path, quantize))
    for label, path in files.items():
        translations[label] = load_translator(path).translate(sources)
    rows = {label: score(each, references) for label, each in translations.items()}
    for kind in KINDS:
        all_pieces, listed = (
            translations[f"{kind}, {name}"] for name in ("all pieces", "shortlist")
        )
        row = rows[f"{kind}, shortlist"]
        row["p_bleu"] = paired_bootstrap(references, all_pieces, {"listed": listed})["listed"][
            "bleu_p"
        ]
        row["same"] = sum(a == b for a, b in zip(all_pieces, listed, strict=True)) / len(pairs)
        two = {label: path for label, path in files.items() if label.startswith(kind)}
        speeds = words_per_second(two, sources[: 5 if tiny else 200])
        for label, speed in speeds.items():
            rows[label] |= {**speed, "bytes": Path(files[label]).stat().st_size}
    return {
        "files": rows,
        "coverage": shortlist.coverage(pairs, recipe.vocabulary())._asdict(),
        "seconds_to_learn": seconds,
        "vocabulary": len(recipe.vocabulary()),
        "training_pairs": len(recipe.train_pairs),
        "test_pairs": len(pairs),
    }


def table(results):
    """The results in Markdown."""
    sizes = results["sizes"]
    first = next(iter(results["languages"].values()))
    signature = next(iter(first["files"].values()))["bleu_signature"]
    lines = [
        "# Shortlists: BLEU and time",
        "",
        f"English help text into three languages; students of {sizes['encoder_layers']} encoder "
        f"layers and {sizes['decoder_layers']} decoder layer, width {sizes['model_dim']}, "
        f"{first['vocabulary']:,} pieces; {in_words(results)}; one sentence at a time, one thread.",
        f"{signature}.",
        "",
        "| to | file | BLEU, all pieces | with a shortlist | difference | p | "
        "same translations | time by all pieces | MB by all pieces | pieces covered | pairs | "
        "seconds to learn |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for target, m in results["languages"].items():
        for kind in KINDS:
            full, listed = (m["files"][f"{kind}, {name}"] for name in ("all pieces", "shortlist"))
            lines.append(
                f"| {target} | {kind} | {full['bleu']:.2f} | {listed['bleu']:.2f} | "
                f"{listed['bleu'] - full['bleu']:+.2f} | {p_value(listed)} | "
                f"{listed['same']:.1%} | {listed['time_ratio']:.2f} | "
                f"{listed['bytes'] / full['bytes']:.2f} | {m['coverage']['pieces']:.1%} | "
                f"{m['training_pairs']:,} | "
                f"{m['seconds_to_learn']:.0f} |"
            )
    lines += [
        "",
        "p: of a difference as large by chance, paired bootstrap. time: median of the ratios "
        "sentence by sentence, tokens made from text included. pieces covered: of the references, "
        "by the candidates of their sentences. pairs: of sentences, from which both students and "
        "shortlists are learned.",
    ]
    return "\n".join(lines) + "\n"


def main():
    """Trains, translates and reports, language by language."""
    parser = arguments(__doc__)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--folder", type=Path, default=HERE / "checkpoints" / "shortlists")
    parser.add_argument("--train", action="store_true", help="train, and measure nothing")
    options = parser.parse_args()
    folder = smoke_folder() if options.smoke else options.folder
    for target in TARGETS[:1] if options.smoke else options.targets:
        path = folder / f"{target}.json"
        if options.train:
            student_of(recipe_of(folder, target, options.smoke))
            continue
        if not path.exists():
            figures = figures_of(recipe_of(folder, target, options.smoke), options.smoke)
            with atomic_write(path) as temporary:
                temporary.write_text(json.dumps(figures))
        finished = {t: folder / f"{t}.json" for t in TARGETS if (folder / f"{t}.json").exists()}
        results = {
            **about(__file__, "ai-edge-litert", "sacrebleu"),
            "sizes": smoke.STUDENT if options.smoke else SHAPE,
            "languages": {t: json.loads(each.read_text()) for t, each in finished.items()},
        }
        write("shortlists", results, table(results))


if __name__ == "__main__":
    main()
