"""The script of the pictures knows all that are shown, and draws them from the JSON files."""

import json
import re
from pathlib import Path

import pytest
from matplotlib.image import imread

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"

pytestmark = pytest.mark.tensorflow_only


@pytest.fixture
def pictures(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import pictures

    return pictures


def test_every_picture_of_the_pages_can_be_made_again(pictures):
    pages = [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
    link = re.compile(r"benchmarks/results/([^)\s]+)\.png")
    shown = {name for page in pages for name in link.findall(page.read_text())}
    assert shown == {*pictures.PICTURES, *pictures.DEMO}


def test_names_are_those_of_the_pages(pictures):
    """No name of a run is left in a legend, and each of a method is in the text of its page."""
    from drawings import reviews, translators

    page = (ROOT / "docs" / "results" / "sentiment.md").read_text()
    results = json.loads((RESULTS / "sentiment.json").read_text())
    methods = {reviews.method(run) for run in results["models"] if run != "dense"}
    named = {method.partition("+")[0] for method in methods} - {"layers left out"}
    assert {name for name in named if name not in page} == set()
    assert "movement, hybrid filled+with teacher" in methods
    page = (ROOT / "docs" / "results" / "lottery.md").read_text()
    for name in translators.LOTTERY.values():
        assert name.removeprefix("from scratch, ") in page


def test_it_draws_what_it_is_asked_for(pictures, tmp_path, monkeypatch):
    def use(folder):
        monkeypatch.setattr("reports._smoke", folder)

    monkeypatch.setattr("sys.argv", ["pictures.py", "--smoke", "--only", "repair_translator"])
    monkeypatch.setattr(pictures, "smoke_folder", lambda: use(tmp_path))
    pictures.main()
    (made,) = tmp_path.iterdir()
    assert made.name == "repair_translator.png"
    assert imread(made).shape == imread(RESULTS / "repair_translator.png").shape


def test_no_picture_is_transparent():
    for path in RESULTS.glob("*.png"):
        assert (imread(path)[..., 3:] == 1).all(), path.name


class Drawn(Exception):
    """Raised instead of drawing, with the title."""


@pytest.fixture
def title_of(monkeypatch):
    def new_figure(width, height, title, *_, **__):
        raise Drawn(title)

    for module in ("groups", "quality"):
        monkeypatch.setattr(f"tfprune.reports.plots.{module}.new_figure", new_figure)

    def title_of(draw, results):
        with pytest.raises(Drawn) as drawn:
            draw(results, None)
        return str(drawn.value)

    return title_of


def test_titles_say_model_and_data_and_where_times_are_shown_the_machine(pictures, title_of):
    timed = 0
    for name, (stem, draw) in pictures.PICTURES.items():
        results = json.loads((RESULTS / f"{stem}.json").read_text())
        title = title_of(draw, results)
        assert "MiniLM" in title or "English-German student" in title, name
        if stem.startswith("repair"):  # Quality by size, without times.
            continue
        assert re.search("movie reviews|help topics|LibreOffice help", title), name
        if not re.search("_(survivors|search|sharing)", name):
            timed += 1
            version = results["versions"]["ai-edge-litert"]
            for part in (results["machine"]["processor"], f"LiteRT {version}, one thread"):
                assert part in title, name
    assert timed == 9


def test_the_demo_says_on_which_machine_it_was_timed(pictures, title_of):
    results = {
        "title": "Translator of LibreOffice help, en to de",
        "test_sentences": 3,
        "models": {"dense int8": {"bleu": 20.0, "time_ratio": 1.0}},
        "machine": {"processor": "A processor", "cores": 2},
        "versions": {"ai-edge-litert": "2.3.0"},
    }
    assert title_of(pictures.DEMO["demo_pareto"], results).splitlines() == [
        "Translator of LibreOffice help, en to de",
        "3 test sentences, one seed",
        "A processor, 2 cores; LiteRT 2.3.0, one thread",
    ]


def test_the_demo_is_drawn_from_its_results(pictures, tmp_path, monkeypatch):
    results = {
        "title": "Translator",
        "test_sentences": 3,
        "models": {
            "dense int8": {"bleu": 20.0, "time_ratio": 1.0},
            "pruned int8": {"bleu": 19.0, "time_ratio": 0.5},
        },
        "survivors": {"ffn": [1, 2]},
        "kinds": {"ffn": "ffn"},
    }
    (tmp_path / "demo.json").write_text(json.dumps(results))
    monkeypatch.setattr("sys.argv", ["pictures.py", "--demo", str(tmp_path / "demo.json")])
    monkeypatch.setattr("reports._RESULTS", tmp_path)
    pictures.main()
    assert {path.stem for path in tmp_path.glob("*.png")} == set(pictures.DEMO)
