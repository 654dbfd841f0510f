"""One training for four sizes: how groups are ranked, and whether gates are trained.

    python benchmarks/four_sizes.py                 # all; about an hour and a half on two cores
    python benchmarks/four_sizes.py --runs fixed trained --seeds 0

MiniLM in the small setting of small_minilm.py, all runs with the same number of steps. `fixed`:
each kind of groups has equal shares in every size. `one_ranking`: one threshold over heads and
units, by importance for each weight. `trained`: as `fixed`, and the gates are trained. Runs that
are finished are not made again. Results are written to
benchmarks/results/four_sizes.{json,md} after each.
"""

from pathlib import Path

import numpy as np
from paired import difference, in_points
from reports import about, arguments, in_words, smoke_folder, write
from small_minilm import Small, finished, left, once

import tfprune
from tfprune.callbacks import DynamicSparsity

HERE = Path(__file__).parent
SIZES = (1.0, 0.75, 0.5, 0.25)
RUNS = {
    "fixed": {},
    "one_ranking": {"within": "model", "per_cost": True},
    "trained": {"train_gates": True},
    "trained_one_ranking": {"train_gates": True, "within": "model", "per_cost": True},
}


def run(work, name):
    """The figures of one run, from its file if it is there."""

    def every_size(data):
        return DynamicSparsity(
            SIZES,
            data=data,
            batches=min(40, len(data)),
            seed=work.seed,
            verbose=0,
            **RUNS[name],
        )

    def figures():
        model, minutes = work.fit(name, every_size)
        small = {str(size): tfprune.rebuild(model, size=size) for size in SIZES}
        sizes = {size: {"right": work.right(m), **left(m)} for size, m in small.items()}
        return {"minutes": minutes, "sizes": sizes}

    return once(work.folder / f"{name}.json", figures)


def results_of(figures, settings):
    """What is kept: run and size by seed, and how they differ from fixed gates at that size.

    Args:
        figures: Run to seed to figures.
        settings: What the runs have alike.
    """
    rows = {}
    for name, each in figures.items():
        fixed = figures.get("fixed", {})
        rows[name] = {
            "minutes": float(np.median([f["minutes"] for f in each.values()])),
            "sizes": {
                size: {
                    "accuracy": {
                        s: float(np.mean(f["sizes"][size]["right"])) for s, f in each.items()
                    },
                    "weights": {s: f["sizes"][size]["weights"] for s, f in each.items()},
                    "against_fixed": difference(
                        {s: f["sizes"][size]["right"] for s, f in each.items()},
                        {s: f["sizes"][size]["right"] for s, f in fixed.items()},
                    )
                    if name != "fixed" and set(fixed) & set(each)
                    else None,
                }
                for size in map(str, SIZES)
            },
        }
    return {**about(__file__, "keras-hub"), "sizes": settings, "models": rows}


def table(results, full):
    """The results in Markdown; `full` are the weights of the whole encoder."""
    sizes = results["sizes"]
    lines = [
        "# Four sizes from one training: MiniLM in a small setting",
        "",
        f"The first {sizes['layers']} layers of MiniLM, {sizes['training']:,} training sentences "
        f"of at most {sizes['longest']} tokens, {sizes['epochs']} epochs, batches of "
        f"{sizes['batch']}; {sizes['test']:,} test sentences; {in_words(results)}.",
        "",
        "| run | " + " | ".join(f"size {size:g} | weights" for size in SIZES) + " | minutes |",
        "|---|" + "---|---|" * len(SIZES) + "---|",
    ]
    for name, m in results["models"].items():
        cells = []
        for each in m["sizes"].values():
            accuracy = f"{np.mean(list(each['accuracy'].values())):.1%}"
            pair = each["against_fixed"]
            cells.append(accuracy if pair is None else f"{accuracy} ({in_points(pair)})")
            cells.append(f"{np.mean(list(each['weights'].values())) / full:.0%}")
        lines.append(f"| {name} | {' | '.join(cells)} | {m['minutes']:.1f} |")
    seeds = sorted({s for m in results["models"].values() for s in m["sizes"]["1.0"]["accuracy"]})
    lines += [
        "",
        f"Means over the seeds {', '.join(seeds)}. In brackets: the difference to `fixed` in "
        "points, with its standard error (test sentences and seeds together); bold where it is "
        "more than two of them. weights: of units and heads that the size has, of all. minutes: "
        "of `fit`, beside other work.",
    ]
    return "\n".join(lines) + "\n"


def report(folder, tiny):
    """Reports all that is finished, of whatever seeds."""
    figures = finished(folder, RUNS)
    work = Small(folder, 0, tiny)
    results = results_of(figures, work.about())
    write("four_sizes", results, table(results, left(work.fresh(work.layers))["weights"]))


def main():
    """Makes the runs, seed by seed, and writes the report after each."""
    parser = arguments(__doc__)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=HERE / "checkpoints" / "four_sizes")
    options = parser.parse_args()
    folder, seeds = options.folder, options.seeds
    if options.smoke:
        folder, seeds = smoke_folder(), [0, 1]
        options.runs = ["fixed", "trained"]
    for seed in seeds:
        for name in options.runs:
            run(Small(folder, seed, options.smoke), name)
            report(folder, options.smoke)


if __name__ == "__main__":
    main()
