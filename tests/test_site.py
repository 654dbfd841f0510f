"""The site: its navigation lists every page, its API every name, and its links lead somewhere."""

import importlib
import importlib.util
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

pytestmark = pytest.mark.tensorflow_only

ROOT = Path(__file__).parents[1]


def load(name):
    """A file of docs/site, which is no package."""
    specification = importlib.util.spec_from_file_location(name, ROOT / "docs/site" / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def hooks():
    pytest.importorskip("mkdocs")
    return load("hooks")


def test_the_navigation_lists_every_page_once(hooks):
    yaml = pytest.importorskip("yaml")
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    listed = re.findall(r"[\w./]+\.(?:md|ipynb)\b", str(settings["nav"]))
    pages = [p for name in ("*.md", "docs/**/*.md", "notebooks/*.ipynb") for p in ROOT.glob(name)]
    names = [page.relative_to(ROOT).as_posix() for page in pages]
    names += [f"docs/api/{module}.md" for module in hooks.MODULES]
    assert sorted(listed) == sorted(names)


def test_modules_that_documents_import_have_a_page(hooks):
    text = "".join(p.read_text() for p in [*ROOT.glob("docs/guides/*.md"), ROOT / "README.md"])
    text += "".join(page.read_text() for page in ROOT.glob("notebooks/*.ipynb"))
    imported = re.findall(r"from (tfprune[\w.]*) import (\w+)", text)
    assert len(imported) > 10
    for module, name in imported:
        known = f"{module}.{name}" if f"{module}.{name}" in hooks.MODULES else module
        assert known in hooks.MODULES, (module, name)


def test_the_api_has_every_public_name_from_where_it_is_defined(hooks):
    for name in hooks.MODULES:
        module = importlib.import_module(name)
        found = hooks.names_of(name)
        if hasattr(module, "__all__"):
            public = {n for n in module.__all__ if not isinstance(getattr(module, n), ModuleType)}
            assert set(found) == public, name
        for public, path in found.items():
            home, _, defined = path.rpartition(".")
            assert getattr(importlib.import_module(home), defined) is getattr(module, public)
            assert f"::: {path}\n" in hooks.api_page(name)


def test_links_to_what_has_no_page_lead_to_the_repository(hooks):
    page = SimpleNamespace(file=SimpleNamespace(src_uri="docs/results/README.md"))
    config = SimpleNamespace(repo_url="https://example.org/x")
    files = SimpleNamespace(src_uris={"docs/results/demo.md": None})
    text = (
        "[a](demo.md#b) [c](../../benchmarks) [d](../../benchmarks/results/models.json) "
        "[e](missing.md) [f](https://example.org)\n```\n[g](../../benchmarks)\n```\n"
    )
    led = hooks.on_page_markdown(text, page, config, files)
    assert led == text.replace(
        "[c](../../benchmarks)", "[c](https://example.org/x/tree/main/benchmarks)"
    ).replace(
        "../../benchmarks/results/models.json",
        "https://example.org/x/blob/main/benchmarks/results/models.json",
    )


def test_examples_of_docstrings_become_code():
    pytest.importorskip("griffe")
    fenced = load("docstrings").fenced
    text = "What.\n\nExample:\n\n>>> f(1)\n2\n>>> f(2)\n\nMore.\n\n    >>> g()\n    1"
    assert fenced(text) == (
        "What.\n\nExample:\n\n```pycon\n>>> f(1)\n2\n>>> f(2)\n```\n\nMore.\n\n"
        "    ```pycon\n    >>> g()\n    1\n    ```"
    )
    assert fenced("Nothing to run.") == "Nothing to run."


def test_a_method_is_described_where_it_is_first_defined(tmp_path):
    griffe = pytest.importorskip("griffe")
    (tmp_path / "shapes.py").write_text(
        "class Shape:\n"
        "    def area(self):\n"
        "        '''In square metres.'''\n\n\n"
        "class Square(Shape):\n"
        "    def area(self):\n"
        "        '''The side, squared.'''\n\n"
        "    def side(self):\n"
        "        '''In metres.'''\n\n"
        "    def on_train_begin(self):\n"
        "        '''Called by Keras.'''\n"
    )
    extensions = griffe.load_extensions(load("docstrings").Docstrings)
    package = griffe.load("shapes", search_paths=[tmp_path], extensions=extensions)
    described = [
        f"{found.name}.{name}"
        for found in package.classes.values()
        for name, member in found.members.items()
        if member.docstring
    ]
    assert described == ["Shape.area", "Square.side"]
