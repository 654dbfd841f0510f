"""Which text a small translator learns most from in the same time.

    python benchmarks/training_text.py          # all; about half an hour on two cores

A student of the demo's shape is trained on LibreOffice's help, on help and interface strings, and
on both and manual pages of Linux, English to German, sentences of at most 12 words. Each sees about
as many tokens: what has more text is gone through fewer times. All are judged on the test sets of
help and of manual pages. Students that are finished are not made again. Results are written to
benchmarks/results/training_text.{json,md} after each.
"""

import json
from dataclasses import replace
from pathlib import Path

import smoke
from progress import Log
from reports import about, arguments, in_words, smoke_folder, write
from translators import p_value

from tfprune.datasets import libreoffice_help, man_pages
from tfprune.demo import STUDENT
from tfprune.files import atomic_write
from tfprune.translation import evaluate, paired_bootstrap
from tfprune.translation.recipe import Recipe

HERE = Path(__file__).parent
SIZES = {"vocabulary_size": 2000, "max_words": 12, "tokens_per_batch": 1500, "prune_epochs": 0}
# Before the learning rate falls, and while it falls to 0.
EPOCHS = {
    "help, interface": (5, 2),
    "help, interface, manuals": (3, 1),
    "help": (7, 3),
}
TEST = {"help": 1000, "manuals": 500}
DEFAULT = "help, interface"  # What the others are compared with.


def text_of(name):
    """A text to learn from."""
    text = libreoffice_help("en", "de", interface_strings="interface" in name)
    if "manuals" in name:
        text = replace(text, train=text.train + man_pages("en", "de").train)
    return text


def tests(tiny):
    """Name of a test set to its pairs, sentences as long as those that are learned."""
    sources = (
        dict.fromkeys(TEST, smoke.pairs())
        if tiny
        else {"help": libreoffice_help("en", "de"), "manuals": man_pages("en", "de")}
    )
    return {
        name: [p for p in text.test if 2 <= len(p[0].split()) <= SIZES["max_words"]][
            : 10 if tiny else TEST[name]
        ]
        for name, text in sources.items()
    }


def figures_of(name, folder, tiny):
    """Quality on each test set, with the translations."""
    pretrain, converge = EPOCHS[name]
    sizes = {**SIZES, "pretrain_epochs": pretrain, "converge_epochs": converge}
    recipe = Recipe(
        smoke.pairs() if tiny else text_of(name),
        folder,
        smoke.STUDENT if tiny else STUDENT,
        **({**sizes, **smoke.TRAINING} if tiny else sizes),
        callbacks=lambda stage, epochs: [Log(f"{name}: {stage}")],
    )
    translator = recipe.translator(recipe.converged("dense", recipe.pretrained))
    steps = len(recipe.batches()) * (recipe.pretrain_epochs + recipe.converge_epochs)
    return {
        "pairs": len(recipe.train_pairs),
        "steps": steps,
        "tests": {test: evaluate(translator, pairs) for test, pairs in tests(tiny).items()},
    }


def with_tests(results, tiny):
    """Adds the p of each text's BLEU against that of the default text."""
    for test, pairs in tests(tiny).items():
        words = {name: row["tests"][test]["hypotheses"] for name, row in results.items()}
        default = words.pop(DEFAULT, None)
        if default and words:
            found = paired_bootstrap([b for _, b in pairs], default, words)
            for name in words:
                results[name]["tests"][test]["p_bleu"] = found[name]["bleu_p"]
    return results


def table(results):
    """The results in Markdown."""
    lines = [
        "# Text to learn from",
        "",
        f"English to German, sentences of at most {SIZES['max_words']} words; "
        f"{results['sizes']['encoder_layers']} encoder layers, "
        f"width {results['sizes']['model_dim']}; one seed; {in_words(results)}.",
        "",
        "| text | pairs | steps | test set | BLEU | p | chrF |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in results["texts"].items():
        lines += [
            f"| {name} | {row['pairs']:,} | {row['steps']:,} | {test} | {m['bleu']:.1f} | "
            f"{p_value({'p_bleu': None, **m})} | {m['chrf']:.1f} |"
            for test, m in row["tests"].items()
        ]
    lines += ["", f"p: of a BLEU as far from that of {DEFAULT!r} by chance, paired bootstrap."]
    return "\n".join(lines) + "\n"


def main():
    """Trains on each text, and reports after each."""
    parser = arguments(__doc__)
    parser.add_argument("--folder", type=Path, default=HERE / "checkpoints" / "training_text")
    options = parser.parse_args()
    folder = smoke_folder() if options.smoke else options.folder
    paths = {name: folder / f"{name.replace(', ', '_')}.json" for name in EPOCHS}
    for name, path in paths.items():
        if not path.exists():
            figures = figures_of(name, folder / path.stem, options.smoke)
            with atomic_write(path) as temporary:
                temporary.write_text(json.dumps(figures))
        rows = {n: json.loads(each.read_text()) for n, each in paths.items() if each.exists()}
        rows = with_tests(rows, options.smoke)
        for row in rows.values():
            for m in row["tests"].values():
                m.pop("hypotheses")
        results = {
            **about(__file__, "sacrebleu"),
            "sizes": smoke.STUDENT if options.smoke else STUDENT,
            "texts": rows,
        }
        write("training_text", results, table(results))


if __name__ == "__main__":
    main()
