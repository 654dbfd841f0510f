"""Group lasso on an English-German student at a size worth quoting.

    python benchmarks/translation.py                  # all runs; hours on two cores
    python benchmarks/translation.py --runs dense ffn-0.3

Runs that are finished are not made again; a killed run goes on from its last epoch. Results are
written to benchmarks/results/translation.{json,md,png} after each run; those of another student,
such as `--student 12-1`, to translation_12-1.*
"""

from pathlib import Path

import smoke
from drawings import translators as draw
from drawings.translators import SHOWN
from progress import Log
from reports import arguments, result, smoke_folder, write
from translators import circumstances, export_once, measured, p_value

from tfprune.datasets import libreoffice_help
from tfprune.translation.recipe import Recipe

HERE = Path(__file__).parent
WORDS_PER_BATCH = 2400
# Encoder layers, decoder layers and whether these are one layer used again, as in the paper.
STUDENTS = {
    "4-1": (4, 1, False),
    "6-2": (6, 2, False),
    "6-2tied": (6, 2, True),
    "12-1": (12, 1, False),
}
# Name to (structures, the paper's λ). Under one λ for all, the encoder empties before the decoder
# loses anything, though a unit of the decoder is read at every step: so one run gives each its own.
LASSO = {
    f"{kind}-{strength}": (structures, strength)
    for kind, structures in (("ffn", ["ffn"]), ("ffn+heads", ["ffn", "heads"]))
    for strength in (0.1, 0.2, 0.3)
} | {"ffn+heads-parts": (["ffn", "heads"], {"encoder.*": 0.12, "decoder.*": 0.7})}


def recipe(student, folder):
    """The sizes of the experiment; in its smallest form where `folder` is `None`."""
    if folder is None:
        return Recipe(smoke.pairs(), smoke_folder(), smoke.STUDENT, **smoke.TRAINING)
    text = libreoffice_help("en", "de", interface_strings=True)
    encoder_layers, decoder_layers, tied = STUDENTS[student]
    shape = {
        "encoder_layers": encoder_layers,
        "decoder_layers": decoder_layers,
        "tied_decoder_layers": tied,
        "model_dim": 128,
        "feed_forward_dim": 768,  # Six times the width, as in the paper.
        "num_heads": 8,
        "dropout": 0.1,  # Else the dense student, which nothing holds back, overfits.
    }
    return Recipe(
        text,
        folder,
        shape,
        vocabulary_size=2000,
        max_length=64,
        pretrain_epochs=8,
        prune_epochs=6,
        converge_epochs=6,
        callbacks=lambda stage, epochs: [Log(stage)],
    )


def train(name, work):
    """Makes one run, or loads what is finished of it."""
    if name == "dense":
        return work.dense()
    if name.startswith("reinit-"):
        return work.from_scratch(name, train(name.removeprefix("reinit-"), work))
    structures, strength = LASSO[name]
    # Most pruned groups are pruned early; what is left recovers in the rest of the epochs.
    return work.pruned(name, structures, strength, words_per_batch=WORDS_PER_BATCH, stop=0.5)


def export(name, model, work):
    """The float and the int8 file of a run."""
    float_file, int8_file = (work.folder / f"{name}{kind}.tflite" for kind in ("", ".int8"))
    return {
        name: export_once(work, model, float_file),
        f"{name} int8": export_once(work, model, int8_file, "dynamic_int8"),
    }


def report(made, files, work, pairs, name):
    """Scores, sizes and speeds of everything that is finished."""
    results = measured(__file__, work, made, files, pairs)
    results["sizes"]["epochs"] = [work.pretrained_epochs, work.pruning_epochs, work.converge_epochs]
    write(name, results, table(results))
    draw.group_lasso(results, result(f"{name}.png"))
    draw.group_lasso_left(results, result(f"{name}_survivors.png"))


def table(results):
    dense = results["models"]["dense"]
    total = {
        kind: sum(v for k, v in dense["groups"].items() if kind in k)
        for kind in ("ffn", "attention")
    }
    lines = [
        "# Translation: group lasso against dense, after the same number of steps",
        "",
        *circumstances(results),
        "| model | BLEU | p | chrF | parameters | ffn left | heads left | MB | MB int8 | words/s | "
        "time | time int8 |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, m in results["models"].items():
        left = {kind: sum(v for k, v in m["groups"].items() if kind in k) for kind in total}
        lines.append(
            f"| {name} | {m['bleu']:.1f} | {p_value(m)} | {m['chrf']:.1f} | {m['parameters']:,} | "
            f"{left['ffn'] / total['ffn']:.0%} | {left['attention'] / total['attention']:.0%} | "
            f"{m['bytes'] / 1e6:.2f} | {m['bytes_int8'] / 1e6:.2f} | "
            f"{m['speed']['words_per_second']:.0f} | {m['speed']['time_ratio']:.2f} | "
            f"{m['speed_int8']['time_ratio']:.2f} |"
        )
    lines += [
        "",
        "time: median over sentences of time by the dense float model's, timed in turn; "
        "p: paired bootstrap of BLEU against dense.",
    ]
    return "\n".join(lines) + "\n"


def main():
    everything = ["dense", *LASSO, "reinit-ffn-0.2", "reinit-ffn+heads-0.3"]
    parser = arguments(__doc__)
    parser.add_argument("--runs", nargs="+", choices=everything, default=everything)
    parser.add_argument("--student", choices=STUDENTS, default="4-1", help="default: %(default)s")
    parser.add_argument("--folder", help="checkpoints; by default a folder beside this script")
    options = parser.parse_args()
    folder = options.folder or HERE / "checkpoints" / options.student
    work = recipe(options.student, None if options.smoke else folder)
    if options.smoke:
        everything = options.runs = ["dense", SHOWN]
    name = "translation" if options.student == "4-1" else f"translation_{options.student}"
    pairs = work.held_out("test", 2000)
    made, files = {}, {}
    finished = [run for run in everything if (work.folder / f"{run}.keras").exists()]
    for run in dict.fromkeys(["dense", *finished, *options.runs]):
        made[run] = train(run, work)
        files |= export(run, made[run], work)
        if run not in finished or run == finished[-1]:
            report(made, files, work, pairs, name)


if __name__ == "__main__":
    main()
