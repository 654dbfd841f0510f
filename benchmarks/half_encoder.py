"""Eleven ways to remove half of an encoder, with three seeds each.

    python benchmarks/half_encoder.py                       # all; about two hours on two cores
    python benchmarks/half_encoder.py --runs dense importance --seeds 0
    python benchmarks/half_encoder.py --full --runs importance movement_soft_struct --seeds 0

MiniLM in the small setting of small_minilm.py, or with `--full` all of it and all sentences, where
a run takes a quarter of an hour. All runs have the same number of steps, pruning included, and are
judged on the same sentences. Runs that are finished are not made again. Results are written to
benchmarks/results/half_encoder.{json,md} after each, in full to half_encoder_full.{json,md}.
"""

from pathlib import Path

import numpy as np
from paired import difference, in_points
from reports import about, arguments, in_words, smoke_folder, write
from small_minilm import Small, finished, left, once

import tfprune
from tfprune import criteria
from tfprune.callbacks import HardConcreteGates, ImportancePruning, MovementPruning

HERE = Path(__file__).parent
HALF = tfprune.Sparsity(0.5)
BY_IMPORTANCE = {"initial_scores": "gradient_importance", "score_learning_rate": 0.03}


def _movement(method, strength=None, **more):
    """Movement pruning; with a strength it is soft, one λ for heads and units alike."""
    strength = None if strength is None else {".*": strength}
    return lambda data: MovementPruning(
        method, HALF, strength, data=data, batches=min(40, len(data)), verbose=0, **more
    )


def _rounds(criterion="gradient_importance", is_fitted=False):
    """Four rounds of a criterion, after each of which what is left may be fitted."""
    return lambda data: ImportancePruning(
        target=HALF,
        data=data,
        criterion=criterion,
        rounds=4,
        start=0.25,
        stop=0.5,
        batches=min(40, len(data)),
        repair=data if is_fitted else None,
        verbose=0,
    )


# First what tells most.
RUNS = {
    "dense": None,
    "importance": _rounds(),
    "importance_repair": _rounds(is_fitted=True),
    "reconstruction_repair": _rounds("reconstruction", is_fitted=True),
    "hard_concrete": lambda data: HardConcreteGates(target=HALF, verbose=0),
    "movement_soft_struct": _movement("struct", 1.0),
    "movement_soft_struct_importance": _movement("struct", 1.0, **BY_IMPORTANCE),
    "movement_hard_struct": _movement("struct"),
    "movement_soft_hybrid": _movement("hybrid", 3.0),
    "random": lambda data: ImportancePruning(
        target=HALF, criterion=criteria.random(0), start=0.25, verbose=0
    ),
    "hard_concrete_l1": lambda data: HardConcreteGates(target=HALF, penalty="l1", verbose=0),
    "movement_hard_struct_importance": _movement("struct", **BY_IMPORTANCE),
}


def run(work, name):
    """The figures of one run, from its file if it is there."""

    def figures():
        model, minutes = work.fit(name, RUNS[name])
        small = model if RUNS[name] is None else tfprune.rebuild(model)
        return {"right": work.right(small), "minutes": minutes, **left(small)}

    return once(work.folder / f"{name}.json", figures)


def results_of(figures, settings):
    """What is kept: for each run its seeds, and how it differs from dense and from importance.

    Args:
        figures: Run to seed to figures.
        settings: What the runs have alike.
    """
    right = {name: {s: f["right"] for s, f in each.items()} for name, each in figures.items()}
    rows = {}
    for name, each in figures.items():
        rows[name] = {
            "accuracy": {seed: float(np.mean(f["right"])) for seed, f in each.items()},
            "minutes": float(np.median([f["minutes"] for f in each.values()])),
            "weights": {seed: f["weights"] for seed, f in each.items()},
            "not_zero": {seed: f["not_zero"] for seed, f in each.items()},
            "groups": next(iter(each.values()))["groups"],
            "against": {
                other: difference(right[name], right[other], seeds_count=not settings["full"])
                for other in ("dense", "importance", "random")
                if other in right and other != name and set(each) & set(right[other])
            },
        }
    return {**about(__file__, "keras-hub"), "sizes": settings, "models": rows}


def table(results):
    """The results in Markdown."""
    sizes, models = results["sizes"], results["models"]
    full = next(iter(models["dense"]["weights"].values()))
    where = "in full" if sizes["full"] else "in a small setting"
    error = "test sentences alone" if sizes["full"] else "test sentences and seeds together"
    lines = [
        f"# Half of an encoder: MiniLM {where}",
        "",
        f"The first {sizes['layers']} layers of MiniLM, {sizes['training']:,} training sentences "
        f"of at most {sizes['longest']} tokens, {sizes['epochs']} epochs, batches of "
        f"{sizes['batch']}; {sizes['test']:,} test sentences; {in_words(results)}.",
        "",
        "| run | accuracy | seeds | against dense | against importance | against random | "
        "weights left | not zero | minutes |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, m in models.items():
        accuracies = list(m["accuracy"].values())
        pairs = (m["against"].get(other) for other in ("dense", "importance", "random"))
        shares = [f"{np.mean(list(m[key].values())) / full:.0%}" for key in ("weights", "not_zero")]
        lines.append(
            f"| {name} | {np.mean(accuracies):.1%} | {', '.join(f'{a:.1%}' for a in accuracies)} | "
            f"{' | '.join(in_points(pair) for pair in pairs)} | {' | '.join(shares)} | "
            f"{m['minutes']:.1f} |"
        )
    lines += [
        "",
        f"Differences in points, with their standard error ({error}); "
        "bold where it is more than two of them. weights left, not zero: of the weights of "
        "units and heads, after `rebuild`. minutes: of `fit`, beside other work.",
    ]
    return "\n".join(lines) + "\n"


def main():
    """Makes the runs, seed by seed, and writes the report after each."""
    parser = arguments(__doc__)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=HERE / "checkpoints" / "half_encoder")
    parser.add_argument("--full", action="store_true", help="all of MiniLM, all sentences")
    options = parser.parse_args()
    folder, seeds = options.folder, options.seeds
    if options.full:
        folder = folder.with_name(f"{folder.name}_full")
    if options.smoke:
        folder, seeds = smoke_folder(), [0, 1]
        options.runs = ["dense", "importance", "movement_soft_hybrid"]
    for seed in seeds:
        for name in dict.fromkeys(["dense", *options.runs]):
            run(Small(folder, seed, options.smoke, options.full), name)
            write_report(folder, options.smoke, options.full)


def write_report(folder, tiny, full):
    """Reports all that is finished, of whatever seeds."""
    figures = finished(folder, RUNS)
    settings = {**Small(folder, 0, tiny, full).about(), "full": full}
    results = results_of(figures, settings)
    write("half_encoder_full" if full else "half_encoder", results, table(results))


if __name__ == "__main__":
    main()
