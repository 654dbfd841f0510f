"""Lottery tickets for attention heads, on an English-German student.

    python benchmarks/lottery.py                          # SSRU decoder, heads of the encoder
    python benchmarks/lottery.py --decoder self_attention # heads of all three kinds

One search goes through all sizes; the tickets of several are trained to the end and compared with
the dense student, with the same shape trained from scratch, with the same number of heads in each
layer, and with what others do to a converged model: hard concrete gates (Voita et al., 2019) and
gradient importance (Michel et al., 2019). Runs that are finished are not made again; a killed one
goes on from its last epoch. Results: benchmarks/results/lottery_{ssru,self_attention}.*
"""

import json
import math
from pathlib import Path

import keras
import numpy as np
import smoke
from drawings import translators as draw
from drawings.translators import LONGER
from progress import Log
from reports import arguments, result, smoke_folder, write
from translators import circumstances, export_once, measured, p_value

import tfprune
from tfprune.callbacks import HardConcreteGates, HeadLottery, ImportancePruning
from tfprune.datasets import libreoffice_help
from tfprune.files import atomic_write
from tfprune.translation import paired_bootstrap
from tfprune.translation.recipe import Recipe

HERE = Path(__file__).parent
SHARES = (50, 65, 75, 85)  # Per cent of the heads that are gone.
COMPARED = 75  # Where the baselines are.
HEADS_PER_ROUND = 3  # As in the paper, for six layers.
ROUND = 0.6  # Of the training up to the checkpoint: 15 of 25 thousand batches in the paper.
# Run to the name of its search, and the criterion.
SEARCHES = {
    "ticket": ("search", "attention_confidence"),
    "ticket_by_importance": ("search_by_importance", "gradient_importance"),
}
# What is told apart from what, beside everything from dense.
PAIRS = (
    ("ticket-75", "reinit-75"),
    ("ticket-75-longer", "reinit-75-longer"),
    ("dense-longer", "ticket-75-longer"),
    ("dense-longer", "ticket_by_importance-75-longer"),
    ("dense-longer", "importance-75"),
    ("dense-longer", "gates-75"),
)
PRUNED = {"ssru": "encoder.*attention", "self_attention": "heads"}


class Experiment:
    """The runs of one student; each is a model by its name."""

    def __init__(self, decoder, folder, scale, tiny=False):
        self.decoder = decoder
        self.folder = Path(folder)
        if tiny:
            shape = {**smoke.STUDENT, "encoder_layers": 2, "decoder": decoder}
            self.recipe = Recipe(smoke.pairs(), folder, shape, **smoke.TRAINING)
            return
        self.recipe = Recipe(
            libreoffice_help("en", "de"),
            folder,
            {
                "encoder_layers": 6,
                "decoder_layers": 2,
                "model_dim": 128,
                "feed_forward_dim": 512,
                "num_heads": 8,
                "dropout": 0.1,
                "decoder": decoder,
            },
            vocabulary_size=2000,
            max_words=15,
            pretrain_epochs=round(5 * scale),  # To the late-resetting checkpoint.
            prune_epochs=0,
            converge_epochs=round(10 * scale),
            callbacks=lambda stage, epochs: [Log(stage)],
        )

    def run(self, name):
        """Makes one run, or loads what is finished of it."""
        if name == "dense":
            return self.recipe.converged(name, self.recipe.pretrained)
        if name.endswith(LONGER):
            return self.longer(name, name.removesuffix(LONGER))
        method, _, share = name.rpartition("-")
        if method in SEARCHES:
            return self.recipe.converged(name, lambda: self.ticket(int(share), method))
        if method == "reinit":
            return self.recipe.from_scratch(name, self.ticket(int(share)))
        if method == "uniform":
            return self.recipe.from_scratch(name, self.uniform(int(share)))
        target = tfprune.Sparsity(int(share) / 100)
        on = PRUNED[self.decoder]
        if method == "gates":  # Half of the time for them, half to settle.
            callback = HardConcreteGates([on], target, stop=0.5, verbose=0)
        else:
            callback = ImportancePruning([on], target, self.recipe.some_batches(), verbose=0)
        return self.after_convergence(name, callback)

    def after_convergence(self, name, callback):
        """As others do: the dense model is trained to the end, then pruned, then trained again."""
        path = self.folder / f"{name}_small.keras"
        if not path.exists():
            pruned = self.longer(name, "dense", [callback])
            with atomic_write(path) as temporary:
                tfprune.rebuild(pruned).save(temporary)
        return keras.saving.load_model(path, compile=False)

    def longer(self, name, begun, callbacks=()):
        """A finished run, trained for as long again as it took to converge."""
        recipe = self.recipe
        epochs, done = recipe.converge_epochs, recipe.pretrained_epochs + recipe.converge_epochs
        return recipe.stage(name, lambda: self.run(begun), epochs, done, callbacks, last=True)

    def search(self, method="ticket"):
        """The rounds of the lottery, which go on from the checkpoint; kept beside the models."""
        name, criterion = SEARCHES[method]
        path = self.folder / f"{name}.json"
        if not path.exists():
            (self.folder / f"{name}.keras").unlink(missing_ok=True)
            lottery = HeadLottery(
                tfprune.Sparsity(max(SHARES) / 100),
                HEADS_PER_ROUND,
                data=self.recipe.some_batches(),
                structures=[PRUNED[self.decoder]],
                criterion=criterion,
                start=0,
                round_length=ROUND,
            )
            structures = tfprune.find_structures(self.recipe.pretrained())
            heads = sum(s.groups for s in structures.select([PRUNED[self.decoder]]))
            rounds = math.ceil(heads * max(SHARES) / 100 / HEADS_PER_ROUND)
            done = self.recipe.pretrained_epochs
            epochs = math.ceil(rounds * ROUND * done) + 1
            self.recipe.stage(name, self.recipe.checkpoint, epochs, done, [lottery])
            history = {
                "rounds": lottery.rounds,
                "table": lottery.table(),
                "keep": [
                    {n: m.tolist() for n, m in lottery.keep(number).items()}
                    for number in range(len(lottery.rounds) + 1)
                ],
            }
            with atomic_write(path) as temporary:
                temporary.write_text(json.dumps(history, indent=1) + "\n")
        return json.loads(path.read_text())

    def searches(self):
        """The searches that are finished, by name."""
        paths = {name: self.folder / f"{name}.json" for name, _ in SEARCHES.values()}
        return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}

    def ticket(self, share, method="ticket"):
        """The checkpoint with the heads of the round that is nearest to a share gone."""

        def gone(keep):
            masks = np.concatenate(list(keep.values()))
            return 100 * (1 - np.mean(masks))

        keep = min(self.search(method)["keep"], key=lambda keep: abs(gone(keep) - share))
        return tfprune.rebuild(
            self.recipe.pretrained(), keep={name: np.array(mask) for name, mask in keep.items()}
        )

    def uniform(self, share):
        """The student with the same number of heads in each layer that is pruned."""
        model = self.recipe.pretrained()  # Its shape alone is used.
        structures = tfprune.find_structures(model).select([PRUNED[self.decoder]])
        keep = {
            s.name: np.arange(s.groups) < round(s.groups * (1 - share / 100)) for s in structures
        }
        return tfprune.rebuild(model, keep=keep)


def names():
    """All runs; those that tell most come first."""
    tickets = [f"ticket-{share}" for share in (COMPARED, *(s for s in SHARES if s != COMPARED))]
    methods = ("reinit", "uniform", "importance", "gates", "ticket_by_importance")
    others = [f"{method}-{COMPARED}" for method in methods]
    again = [f"{method}-{COMPARED}" for method in ("ticket", "reinit", "ticket_by_importance")]
    longer = [f"{name}{LONGER}" for name in ("dense", *again)]
    return ["dense", tickets[0], *others, *longer, *tickets[1:], f"reinit-{max(SHARES)}"]


def heads_left(groups, dense):
    """Heads of each layer, kind by kind: `8 8 8 8 8 8`."""
    kinds = {"encoder": [], "decoder": [], "context": []}
    for name in dense:
        if name.endswith("attention"):
            kind = "context" if "cross" in name else name.partition("_")[0]
            kinds[kind].append(str(groups.get(name, 0)))
    return {kind: " ".join(left) for kind, left in kinds.items() if left}


def report(work, made, pairs):
    """Scores, sizes and speeds of everything that is finished."""
    recipe = work.recipe
    files = {
        name: export_once(recipe, model, recipe.folder / f"{name}.tflite")
        for name, model in made.items()
    }
    results = measured(__file__, recipe, made, files, pairs)
    results["sizes"]["epochs"] = {
        "checkpoint": recipe.pretrained_epochs,
        "round": ROUND * recipe.pretrained_epochs,
        "convergence": recipe.converge_epochs,
    }
    results["rounds"] = {name: found["rounds"] for name, found in work.searches().items()}
    results["differences"] = differences(recipe, made, pairs)
    stem = f"lottery_{work.decoder}"
    write(stem, results, table(results))
    draw.lottery(results, result(f"{stem}.png"))
    for name in results["rounds"]:
        draw.search(name)(results, result(f"{stem}_{name}.png"))


def differences(recipe, made, pairs):
    """BLEU of one run over that of another, and its p, where both are finished."""
    rows = []
    for one, other in PAIRS:
        if one in made and other in made:
            runs = [recipe.scores(name, made[name], pairs) for name in (one, other)]
            translations = [run["hypotheses"] for run in runs]
            test = paired_bootstrap(
                [target for _, target in pairs], translations[0], {other: translations[1]}
            )
            gain = runs[1]["bleu"] - runs[0]["bleu"]
            rows.append({"of": other, "over": one, "bleu": gain, "p": test[other]["bleu_p"]})
    return rows


def table(results):
    """The results in Markdown."""
    dense = results["models"]["dense"]
    sizes = results["sizes"]
    kinds = list(heads_left(dense["groups"], dense["groups"]))
    total = sum(n for name, n in dense["groups"].items() if name.endswith("attention"))
    lines = [
        f"# Lottery tickets for heads: student with {sizes['encoder_layers']} encoder and "
        f"{sizes['decoder_layers']} decoder layers ({sizes['decoder']})",
        "",
        *circumstances(
            results,
            f"{sizes['epochs']['checkpoint']} epochs to the checkpoint, "
            f"{sizes['epochs']['round']:g} for each round, "
            f"{sizes['epochs']['convergence']} of convergence; ",
        ),
        f"| model | heads gone | {' | '.join(kinds)} | BLEU | p | chrF | parameters | MB | words/s "
        "| time |",
        "|---" * (9 + len(kinds)) + "|",
    ]
    for name, m in results["models"].items():
        left = heads_left(m["groups"], dense["groups"])
        number = sum(n for k, n in m["groups"].items() if k.endswith("attention"))
        lines.append(
            f"| {name} | {total - number} of {total} | {' | '.join(left[k] for k in kinds)} | "
            f"{m['bleu']:.1f} | {p_value(m)} | {m['chrf']:.1f} | {m['parameters']:,} | "
            f"{m['bytes'] / 1e6:.2f} | {m['speed']['words_per_second']:.0f} | "
            f"{m['speed']['time_ratio']:.2f} |"
        )
    lines += [
        "",
        "time: median over sentences of time by the dense model's, timed in turn; p: paired "
        "bootstrap of BLEU against dense. ticket: found by the lottery, by confidence unless named "
        "otherwise; reinit: its shape from scratch; uniform: as many heads, the same in each "
        "layer, from scratch; importance and gates: pruned after convergence while training for "
        "as long again, as the models called -longer are trained too.",
    ]
    if results["differences"]:
        lines += ["", "| model | against | BLEU | p |", "|---|---|---|---|"]
    for row in results["differences"]:
        lines.append(f"| {row['of']} | {row['over']} | {row['bleu']:+.1f} | {row['p']:.3f} |")
    return "\n".join(lines) + "\n"


def main():
    """Makes the runs and writes the report after each."""
    parser = arguments(__doc__)
    parser.add_argument("--decoder", choices=PRUNED, default="ssru", help="default: %(default)s")
    parser.add_argument("--runs", nargs="+", choices=names(), default=names())
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of epochs")
    parser.add_argument("--folder", help="checkpoints; by default a folder beside this script")
    parser.add_argument("--train-only", action="store_true", help="no files, no report")
    options = parser.parse_args()
    folder = options.folder or HERE / "checkpoints" / f"lottery-{options.decoder}"
    if options.smoke:
        folder, options.runs = smoke_folder(), ["ticket-75", "reinit-75", "gates-75"]
    work = Experiment(options.decoder, folder, options.scale, options.smoke)
    pairs = work.recipe.held_out("test", 2000)
    made = {}
    runs = list(dict.fromkeys(["dense", *options.runs]))
    for name in runs:
        finished = (work.folder / f"{name}.keras").exists()
        made[name] = work.run(name)
        if not options.train_only and (not finished or name == runs[-1]):
            report(work, made, pairs)


if __name__ == "__main__":
    main()
