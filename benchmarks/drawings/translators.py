"""English-German students: pictures of translation, every_size, lottery and device."""

from drawings.words import grouped, groups_left, machine
from tfprune.reports.plots import curves, pareto, rounds, small_multiples, survivors
from tfprune.reports.plots.drawing import label_points, written

DATA = "LibreOffice help"
X = "times as fast as the unpruned model"
SHOWN = "ffn+heads-0.3"  # The run of group lasso whose survivors are drawn.
SEARCHES = {"search": "confidence", "search_by_importance": "gradient importance"}
LOTTERY = {
    "ticket": "lottery, by confidence",
    "ticket_by_importance": "lottery, by gradient importance",
    "reinit": "from scratch, shape of the lottery",
    "uniform": "from scratch, as many in each layer",
    "importance": "gradient importance after convergence",
    "gates": "hard concrete gates after convergence",
}
LONGER = "-longer"  # Trained for as long as those that are pruned after convergence.
AFTER = ("importance", "gates")  # Those.


def group_lasso(results, path):
    """Units, and units and heads, at three strengths, and two shapes from scratch."""

    def method(run):
        kinds, _, strength = run.removeprefix("reinit-").rpartition("-")
        on = "units" if kinds == "ffn" else "units and heads"
        if run.startswith("reinit-"):
            return f"from scratch, shape of {on}, λ\u00a0{strength}"
        return f"group lasso on {on}"

    models = results["models"]
    series = grouped(models, method, _point)
    if not series:
        return
    title = _title(results, "English-German student pruned by group lasso")
    series = {"dense": [_point(models["dense"])], **series}
    figure = curves(series, None, X, "BLEU", title, models["dense"]["bleu"])
    (axes,) = figure.axes
    axes.margins(0.1, 0.12)
    strengths = [
        (f"λ {run.rpartition('-')[2]}", _point(row))
        for run, row in models.items()
        if run.startswith("ffn") and not run.endswith("parts")
    ]
    label_points(axes, strengths)
    written(figure, path)


def group_lasso_left(results, path):
    """What group lasso leaves in each layer."""
    models = results["models"]
    if SHOWN in models:
        counts, kinds = groups_left(models["dense"]["groups"], models[SHOWN]["groups"])
        title = "English-German student pruned by group lasso on units and heads, λ 0.3"
        survivors(counts, path, kinds, f"{title}\n{DATA}; what is left, one seed")


def every_size(results, path):
    """One training for all sizes against one for each."""
    names = {
        "dynamic": "dynamic sparsity, one training for all sizes",
        "importance": "gradient importance, one training for each size",
    }
    series = grouped(
        results["models"], lambda run: names[run.partition("@")[0].partition("-")[0]], _point
    )
    if series:
        title = _title(
            results, "English-German student: one training for all sizes, or one for each"
        )
        curves(series, path, X, "BLEU", title, results["models"]["dense"]["bleu"])


def lottery(results, path):
    """Tickets and what they are compared with, by the epochs that a run was trained for."""
    models, epochs = results["models"], results["sizes"]["epochs"]
    once = epochs["checkpoint"] + epochs["convergence"]
    panels, references = {}, {}
    for longer in (False, True):
        runs = {
            run.removesuffix(LONGER): row
            for run, row in models.items()
            if (run.endswith(LONGER) or run.startswith(AFTER)) == longer
        }
        series = grouped(runs, lambda run: LOTTERY[run.rpartition("-")[0]], _point)
        if series:
            heading = f"{once + longer * epochs['convergence']} epochs"
            panels[heading] = series
            if "dense" in runs:
                references[heading] = runs["dense"]["bleu"]
    if panels:
        title = _title(results, f"{_student(results)}, heads removed")
        small_multiples(panels, path, X, "BLEU", title, references)


def device(results, path):
    """The int8 files of students and of CTranslate2 and ONNX Runtime."""
    points = {
        _label(row): (1 / figures["1 threads"]["by"]["dense int8"], figures["bleu"])
        for row, figures in results["models"].items()
        if "int8" in row
    }
    tested = results["sizes"]["test_pairs"]
    title = (
        f"English-German student, int8, a sentence at a time\n{DATA}, {tested:,} test sentences; "
        f"one seed\n{machine(results)}"
    )
    pareto(points, path, "times as fast as the dense LiteRT file", title=title)


def _label(row):
    return row.replace(" int8", "").replace("importance", "gradient importance").replace("_", " ")


def search(name):
    """Draws the rounds of one search of the lottery."""

    def draw(results, path):
        history = results["rounds"].get(name)
        if history:
            dense = results["models"]["dense"]["groups"]
            whole = {layer: dense[layer] for layer in history[0]["left"]}
            title = f"{_student(results)}\n{DATA}; heads left after each round"
            left = [whole, *(row["left"] for row in history)]
            rounds(left, path, f"{title}, by {SEARCHES[name]}")

    return draw


def _point(row):
    return 1 / row["speed"]["time_ratio"], row["bleu"]


def _student(results):
    decoder = {"ssru": "SSRU decoder", "self_attention": "decoder with self-attention"}
    return f"English-German student, {decoder[results['sizes']['decoder']]}"


def _title(results, what):
    tested = results["sizes"]["test_pairs"]
    data = f"{DATA}, {tested:,} test sentences; one seed"
    return f"{what}\n{data}\n{machine(results)}, float"
