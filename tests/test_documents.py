"""README.md and docs: their programs run, their links lead somewhere, the README stays short."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import tfprune

pytestmark = pytest.mark.tensorflow_only  # The JAX page chooses its backend itself.

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [
    README,
    *sorted(ROOT.glob("docs/**/*.md")),
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "SECURITY.md",
]
# Choosing a backend takes a process of its own.
OWN_PROCESS = "jax.md"


def program_of(page):
    """All Python blocks of a page, one after the other."""
    return "\n\n".join(re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.M | re.S))


def name_of(page):
    return str(page.relative_to(ROOT))


GUIDES = sorted(ROOT.glob("docs/guides/*.md"))


def test_only_guides_and_the_readme_have_programs():
    assert [page for page in PAGES if program_of(page)] == [README, *GUIDES]


def run(page):
    names = {"__name__": "__main__"}
    exec(compile(program_of(page), name_of(page), "exec"), names)
    return names


def test_the_program_of_the_readme_halves_a_model_that_has_learned(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = run(README)
    shown = capsys.readouterr().out
    for line in ("parameters", "FLOPs", "bytes (.tflite)", "LiteRT ms"):  # As its comment says.
        assert line in shown
    model, small, x, y = (names[name] for name in ("model", "small", "x", "y"))
    assert model.evaluate(x, y, verbose=0, return_dict=True)["accuracy"] > 0.9
    np.testing.assert_allclose(
        small.predict(x[:64], verbose=0), model.predict(x[:64], verbose=0), atol=1e-4
    )
    assert small.count_params() < 0.55 * model.count_params()
    assert (tmp_path / "small.tflite").exists()


@pytest.mark.slow
@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_the_program_of_a_guide_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if page.name == OWN_PROCESS:
        pytest.importorskip("jax")
        environment = {name: value for name, value in os.environ.items() if "KERAS" not in name}
        subprocess.run([sys.executable, "-c", program_of(page)], env=environment, check=True)
        assert (tmp_path / "small.keras").exists()
    else:
        small = run(page)["small"]
        assert small.built


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_every_page_is_in_a_table_of_contents():
    for folder, contents in (("guides", "docs/index.md"), ("results", "docs/results/README.md")):
        text = (ROOT / contents).read_text()
        for page in (ROOT / "docs" / folder).glob("*.md"):
            assert page.name == "README.md" or f"{page.name})" in text, page.name


def messages_of(path):
    """The strings of a file, with `…` for each value in them, as lines of one paragraph."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
            yield "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_every_message_that_is_explained_exists():
    page = ROOT / "docs" / "troubleshooting.md"
    sources = [*ROOT.glob("tfprune/**/*.py"), *ROOT.glob("callbacks/*.py")]
    messages = "\n".join(message for path in sources for message in messages_of(path))
    explained = re.findall("^### (.*)$", page.read_text(), re.M)
    assert len(explained) > 20
    assert [message for message in explained if message not in messages] == []


@pytest.mark.parametrize(
    "mistake",
    [
        lambda model, x: tfprune.Latency("5 ms"),
        lambda model, x: tfprune.prune(model, tfprune.Sparsity(0.5), x, criterion="magnitud"),
        lambda model, x: tfprune.export(model, "model.tflite", quantize="int4"),
    ],
)
def test_messages_of_usual_mistakes_are_explained(mistake, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layers = [keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(2)]
    with pytest.raises(ValueError) as error:
        mistake(keras.Sequential(layers), np.ones((4, 4), "float32"))
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    patterns = [
        ".*".join(map(re.escape, heading.split("…")))
        for heading in re.findall("^### (.*)$", text, re.M)
    ]
    assert any(re.match(pattern, str(error.value)) for pattern in patterns)


def test_every_picture_of_the_benchmarks_is_shown():
    shown = "".join(page.read_text() for page in PAGES)
    for picture in (ROOT / "benchmarks" / "results").glob("*.png"):
        assert picture.name in shown, picture.name


def test_readme_is_short_and_names_the_two_commands():
    lines = README.read_text().splitlines()
    assert len(lines) <= 150
    assert any("make demo " in line for line in lines) and any(
        "make test" in line for line in lines
    )
