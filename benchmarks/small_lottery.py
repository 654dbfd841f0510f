"""Lottery tickets for three quarters of the encoder's heads, in minutes and with several seeds.

    python benchmarks/small_lottery.py                 # all; about an hour on two cores
    python benchmarks/small_lottery.py --seeds 0 --runs ticket

A translator in the small setting of small_student.py. `ticket`: heads are found by the lottery, by
confidence on development text, and the checkpoint without the others is trained.
`importance_rounds` is the same with gradient importance in place of confidence. `importance`: heads
leave by gradient importance during the first half of that training, without any rounds. `random`:
as `ticket`, with heads drawn at random. All have as many steps after the checkpoint; the search for
a ticket is not counted, and takes about twice as many. Runs that are finished are not made again.
Results are written to benchmarks/results/small_lottery.{json,md} after each; lottery.py is the long
form.
"""

import json
import math

import numpy as np
from paired import difference, in_loss
from reports import in_words
from small_student import mean, run_all

import tfprune
from tfprune.callbacks import HeadLottery, ImportancePruning
from tfprune.files import atomic_write

EPOCHS = (5, 0, 10)  # To the checkpoint, and after it.
SHARE = 0.75
HEADS_PER_ROUND = 4
ON = "encoder.*attention"
CRITERIA = {"ticket": "attention_confidence", "importance_rounds": "gradient_importance"}
RUNS = ("dense", "ticket", "importance_rounds", "importance", "random")


def search(work, name):
    """Which heads stay by the lottery, structure by structure; kept beside the models."""
    recipe = work.recipe
    path = work.folder / f"search-{name}.json"
    if not path.exists():
        # Without its list of heads, a finished search says nothing.
        (work.folder / f"search-{name}.keras").unlink(missing_ok=True)
        lottery = HeadLottery(
            tfprune.Sparsity(SHARE),
            HEADS_PER_ROUND,
            data=recipe.some_batches(),
            structures=[ON],
            criterion=CRITERIA[name],
            start=0,
            verbose=0,
        )
        structures = tfprune.find_structures(recipe.pretrained()).select([ON])
        rounds = math.ceil(SHARE * sum(s.groups for s in structures) / HEADS_PER_ROUND)
        done = recipe.pretrained_epochs
        epochs = math.ceil(rounds * lottery.round_length * done) + 1
        recipe.stage(f"search-{name}", recipe.checkpoint, epochs, done, [lottery])
        keep = {n: m.tolist() for n, m in lottery.keep(len(lottery.rounds)).items()}
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(keep) + "\n")
    return {n: np.array(mask) for n, mask in json.loads(path.read_text()).items()}


def at_random(work):
    """As many heads, drawn at random."""
    structures = tfprune.find_structures(work.recipe.pretrained()).select([ON])
    count = sum(s.groups for s in structures)
    stay = np.random.default_rng(work.recipe.seed).permutation(count) >= round(SHARE * count)
    bounds = np.cumsum([s.groups for s in structures])[:-1]
    return {s.name: mask for s, mask in zip(structures, np.split(stay, bounds), strict=True)}


def run(work, name):
    """The figures of one run."""
    recipe = work.recipe

    def begun():
        if name == "dense":
            return recipe.pretrained()
        keep = at_random(work) if name == "random" else search(work, name)
        return tfprune.rebuild(recipe.pretrained(), keep=keep)

    def make():
        if name != "importance":
            return recipe.converged(name, begun), {}
        pruning = ImportancePruning(
            [ON], tfprune.Sparsity(SHARE), recipe.some_batches(), stop=0.5, verbose=0
        )
        epochs, done = recipe.converge_epochs, recipe.pretrained_epochs
        trained = recipe.stage(name, recipe.pretrained, epochs, done, [pruning], last=True)
        return tfprune.rebuild(trained), {}

    return work.figures(name, make)


def rows_of(figures):
    """What is reported of each run."""
    rows = {}
    losses = {n: {s: f["each"] for s, f in each.items()} for n, each in figures.items()}
    for name, each in figures.items():
        rows[name] = {
            "heads_left": {
                seed: [
                    n
                    for k, n in f["groups"].items()
                    if k.startswith("encoder") and "attention" in k
                ]
                for seed, f in each.items()
            },
            "loss": {seed: float(np.mean(loss)) for seed, loss in losses[name].items()},
            "bleu": {seed: f["bleu"] for seed, f in each.items()},
            "against_dense": difference(losses[name], losses["dense"]),
        }
        if name not in ("dense", "ticket") and set(losses.get("ticket", ())) & set(each):
            rows[name]["against_ticket"] = difference(losses[name], losses["ticket"])
    return rows


def table(results):
    """The results in Markdown."""
    sizes, models = results["sizes"], results["models"]
    checkpoint, _, after = sizes["epochs"]
    lines = [
        "# Three quarters of the encoder's heads: a translator in a small setting",
        "",
        f"English to German, {sizes['training']:,} help texts of at most {sizes['longest']} words; "
        f"{sizes['encoder_layers']} encoder layers of {sizes['num_heads']} heads and "
        f"{sizes['decoder_layers']} decoder layer, width {sizes['model_dim']}; {checkpoint} epochs "
        f"of {sizes['steps']} steps to the checkpoint, {after} after it; {sizes['test']:,} test "
        f"sentences; {in_words(results)}.",
        "",
        "| run | heads left | loss | over dense | over `ticket` | BLEU |",
        "|---|---|---|---|---|---|",
    ]
    for name, m in models.items():
        heads = {seed: sum(left) for seed, left in m["heads_left"].items()}
        over = in_loss(m["against_dense"]) if name != "dense" else ""
        lines.append(
            f"| {name} | {mean(heads, '.1f')} | {mean(m['loss'], '.3f')} | {over} | "
            f"{in_loss(m.get('against_ticket'))} | {mean(m['bleu'], '.1f')} |"
        )
    lines += [
        "",
        f"Means over the seeds {', '.join(models['dense']['loss'])}. loss: cross-entropy of a word "
        "of the test sentences. ± the standard error (test sentences and seeds together); bold "
        "where a difference is more than two of them.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_all(__file__, __doc__, RUNS, ["ticket", "importance"], EPOCHS, run, rows_of, table)
