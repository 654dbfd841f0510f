"""MiniLM on movie reviews: what benchmarks/sentiment.py has measured."""

from drawings.words import grouped, groups_left, machine, standard_error
from tfprune.reports.plots import curves, small_multiples, survivors
from tfprune.reports.plots.drawing import label_points, written

# Methods by the names of runs, as docs/results/sentiment.md calls them.
METHODS = {
    "importance": "gradient importance",
    "struct": "movement, struct",
    "hybrid": "movement, hybrid",
    "hybrid_filled": "movement, hybrid filled",
    "hard_concrete": "hard concrete",
    "magnitude": "magnitude",
    "layers": "layers left out",
    "random": "random",
    "heads": "gradient importance",
    "lottery": "lottery",
}
TEACHER = "with teacher"
X = "times as fast as the unpruned model"
Y = "accuracy (%)"


def method(run):
    """The method of a run: `movement, hybrid+with teacher` of `hybrid-0.5+teacher`."""
    name, teacher, _ = run.partition("+")
    return METHODS[name.rpartition("-")[0]] + (f"+{TEACHER}" if teacher else "")


def overview(results, path):
    """The picture of README.md: three rules, three sizes each."""
    models = results["models"]
    rules = ("gradient importance", "random", "layers left out")
    series = {rule: points for rule, points in _series(results).items() if rule in rules}
    figure = curves(
        {"dense": [_point(results)(models["dense"])], **{rule: series[rule] for rule in rules}},
        x=X,
        y=Y,
        title=_title(results, "pruned while fine-tuned"),
        reference=100 * models["dense"]["accuracy"],
    )
    (axes,) = figure.axes
    axes.set_xlim(0.9, 3.3)
    removed = [
        (f"{1 - row['encoder_weights'] / models['dense']['encoder_weights']:.0%} removed", row)
        for run, row in models.items()
        if run.startswith("importance") and "+" not in run
    ]
    label_points(axes, [(label, _point(results)(row)) for label, row in removed])
    written(figure, path)


def by_method(results, path):
    """Each method, with and without a teacher, beside what random removal does."""
    series = _series(results)
    chance = {"random": series["random"]} if "random" in series else {}
    panels = {
        name: {k: p for k, p in series.items() if k.partition("+")[0] == name}
        | (chance if name != "random" else {})
        for name in dict.fromkeys(METHODS.values())
        if name in {k.partition("+")[0] for k in series}
    }
    if panels:
        dense = 100 * results["models"]["dense"]["accuracy"]
        small_multiples(
            panels,
            path,
            x=X,
            y=Y,
            title=_title(results, "30, 50 and 70 % of the encoder's weights removed"),
            references=dict.fromkeys(panels, dense),
            columns=4,
        )


def heads(results, path):
    """Heads alone: by the lottery, and in a fit."""
    series = _series(results)
    if series:
        dense = 100 * results["models"]["dense"]["accuracy"]
        title = _title(results, "half and three quarters of the heads removed")
        curves(series, path, X, Y, title, reference=dense)


def left(results, path):
    """What is left in each layer of the best model that has lost half."""
    models = results["models"]
    half = [run for run in models if "-0.5" in run]
    if half:
        best = max(half, key=lambda run: models[run]["accuracy"])
        what = "heads" if best.startswith(("heads", "lottery")) else "weights"
        counts, kinds = groups_left(models["dense"]["groups"], models[best]["groups"])
        name = method(best).replace("+", ", ")
        title = f"MiniLM on movie reviews: what is left with half of the {what} removed"
        survivors(counts, path, kinds, f"{title}\n{name}")


def _series(results):
    return grouped(results["models"], method, _point(results))


def _point(results):
    tested = results["sizes"]["test"]

    def point(row):
        error = standard_error(row["accuracy"], tested)
        return 1 / row["time"], 100 * row["accuracy"], 100 * error

    return point


def _title(results, what):
    return (
        f"MiniLM on movie reviews, {what}\n"
        f"{machine(results)}, float; {results['sizes']['test']:,} sentences, bars: "
        "one standard error, one seed"
    )
