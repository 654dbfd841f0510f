"""Group lasso under a target: removal at the end of the penalty against removal during it.

    python benchmarks/lasso_target.py                  # all; about an hour on two cores
    python benchmarks/lasso_target.py --seeds 0 --runs dense at_stop-33 during-33

A translator in the small setting of small_student.py loses a third and two thirds of the units of
its feed-forward layers. `at_stop`: the penalty shrinks groups, and they are removed at its end.
`during`: they are removed as they shrink. `importance`: by gradient importance in as many steps,
without a penalty. All runs go on from the same pretrained model and have the same number of steps;
so has the dense one. Runs that are finished are not made again. Results are written to
benchmarks/results/lasso_target.{json,md} after each.
"""

import numpy as np
from paired import difference, in_loss
from reports import in_words
from small_student import mean, run_all

import tfprune
from tfprune.callbacks import GroupLasso, ImportancePruning

EPOCHS = (12, 5, 5)
SHARES = {"33": 1 / 3, "67": 2 / 3}
METHODS = ("at_stop", "during", "importance")
RUNS = ("dense", *(f"{method}-{share}" for share in SHARES for method in METHODS))


def callback(work, name):
    """The pruning callback of a run."""
    method, _, share = name.partition("-")
    target = tfprune.Sparsity(SHARES[share])
    if method == "importance":
        data = work.recipe.some_batches(split="train")
        return ImportancePruning(["ffn"], target, data, verbose=0)
    return GroupLasso(["ffn"], target=target, removal=method, stop=None, verbose=0)


def run(work, name):
    """The figures of one run."""
    recipe = work.recipe
    more = {}

    def cut():
        pruning = callback(work, name)
        done = recipe.pretrained_epochs
        stage = f"{name}_1"
        pruned = recipe.stage(stage, recipe.pretrained, recipe.pruning_epochs, done, [pruning])
        small = tfprune.rebuild(pruned)
        more["loss_after_cut"] = float(np.mean(work.losses(small)))
        strengths = getattr(pruning, "strengths_reached", None)
        more["strengths"] = {n: float(s) for n, s in (strengths or {}).items()}
        return small

    def make():
        if name == "dense":
            return recipe.dense(), more
        return recipe.converged(name, cut), more

    return work.figures(name, make)


def rows_of(figures):
    """What is reported of each run."""
    dense = figures["dense"]
    units = {s: sum(n for k, n in f["groups"].items() if "ffn" in k) for s, f in dense.items()}
    rows = {}
    for name, each in figures.items():
        losses = {seed: f["each"] for seed, f in each.items()}
        rows[name] = {
            "units_left": {
                seed: sum(n for k, n in f["groups"].items() if "ffn" in k) / units[seed]
                for seed, f in each.items()
            },
            "loss": {seed: float(np.mean(loss)) for seed, loss in losses.items()},
            "loss_after_cut": {s: f["loss_after_cut"] for s, f in each.items() if name != "dense"},
            "bleu": {seed: f["bleu"] for seed, f in each.items()},
            "strengths": {seed: f.get("strengths") for seed, f in each.items()},
            "against_dense": difference(losses, {s: f["each"] for s, f in dense.items()}),
        }
        method, _, share = name.partition("-")
        other = figures.get(f"at_stop-{share}")
        if other and method in METHODS[1:] and set(other) & set(each):
            rows[name]["against_at_stop"] = difference(
                losses, {s: f["each"] for s, f in other.items()}
            )
    return rows


def table(results):
    """The results in Markdown."""
    sizes, models = results["sizes"], results["models"]
    pretraining, penalty, after = sizes["epochs"]
    seeds = ", ".join(models["dense"]["loss"])
    lines = [
        "# Group lasso under a target: a translator in a small setting",
        "",
        f"English to German, {sizes['training']:,} help texts of at most {sizes['longest']} words; "
        f"{sizes['encoder_layers']} encoder layers and {sizes['decoder_layers']} decoder layer, "
        f"width {sizes['model_dim']}, {sizes['feed_forward_dim']} units in each feed-forward "
        f"layer; {pretraining} epochs of {sizes['steps']} steps, {penalty} with pruning, {after} "
        f"afterwards; {sizes['test']:,} test sentences; {in_words(results)}.",
        "",
        "| run | units left | loss after the cut | loss at the end | over dense | over `at_stop` | "
        "BLEU |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, m in models.items():
        lines.append(
            f"| {name} | {mean(m['units_left'], '.1%')} | {mean(m['loss_after_cut'], '.3f')} | "
            f"{mean(m['loss'], '.3f')} | {in_loss(m['against_dense']) if name != 'dense' else ''} "
            f"| {in_loss(m.get('against_at_stop'))} | {mean(m['bleu'], '.1f')} |"
        )
    lines += [
        "",
        f"Means over the seeds {seeds}. Losses: cross-entropy of a word of the test sentences. "
        "± the standard error (test sentences and seeds together); bold where a difference is more "
        "than two of them.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_all(__file__, __doc__, RUNS, ["at_stop-67", "during-67"], EPOCHS, run, rows_of, table)
