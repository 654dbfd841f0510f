"""What surrounds the package: its description on an index, forms, workflows, and the wheel."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import tfprune.callbacks

pytestmark = pytest.mark.tensorflow_only

yaml = pytest.importorskip("yaml")
try:
    import tomllib
except ImportError:  # Python 3.10, where pytest brings it.
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REPOSITORY = PROJECT["urls"]["Repository"]
LINK = re.compile(r"(!?)\[[^\]]*\]\(([^)\s]+)\)")


def read(name):
    return yaml.safe_load((ROOT / name).read_text())


@pytest.fixture
def setup(monkeypatch):
    """The names of setup.py, and under `given` what it passes to setuptools."""
    setuptools = pytest.importorskip("setuptools")
    given = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: given.update(arguments))
    monkeypatch.chdir(ROOT)
    return {**runpy.run_path(str(ROOT / "setup.py")), "given": given}


def test_links_of_the_description_lead_to_the_same_files_from_anywhere(setup):
    readme = (ROOT / "README.md").read_text()
    description = setup["given"]["long_description"]
    before, after = LINK.findall(readme), LINK.findall(description)
    assert len(before) == len(after) > 20
    for (picture, target), (_, absolute) in zip(before, after, strict=True):
        place = f"{REPOSITORY}/blob/main/"
        if picture:
            place = place.replace("//github.com", "//raw.githubusercontent.com")
            place = place.replace("/blob/", "/")
        assert absolute == place + target
        assert (ROOT / target.partition("#")[0]).exists()
    assert LINK.sub("", description) == LINK.sub("", readme)
    assert PROJECT["dynamic"] == ["readme"]
    assert setup["given"]["long_description_content_type"] == "text/markdown"


def test_links_that_are_absolute_or_within_the_page_stay(setup):
    text = "[a](https://example.org) [b](#below) [c](mailto:a@example.org) `[d]`"
    assert setup["absolute_links"](text) == text


def test_every_file_names_the_same_repository(setup):
    assert setup["REPOSITORY"] == REPOSITORY
    assert read("mkdocs.yml")["repo_url"] == REPOSITORY
    assert read("CITATION.cff")["repository-code"] == REPOSITORY
    assert all(url.startswith(REPOSITORY) for url in PROJECT["urls"].values())
    for path in (ROOT / ".github").rglob("*.*"):
        for url in re.findall(r"https://github\.com/[\w.-]+/[\w.-]+", path.read_text()):
            assert url == REPOSITORY, path
    for url in PROJECT["urls"].values():
        _, _, path = url.partition("/blob/main/")
        assert (ROOT / path).exists()


def test_the_citation_is_of_this_version():
    citation = read("CITATION.cff")
    for key in ("version", "license", "keywords"):
        assert citation[key] == PROJECT[key]
    assert citation["title"] == PROJECT["name"] and citation["authors"]
    methods = " ".join(reference["notes"] for reference in citation["references"])
    papers = (ROOT / "docs/papers/README.md").read_text()
    for reference in citation["references"]:
        title = reference["title"].partition(":")[0]
        assert re.search(rf"{title}.*{reference['year']}", papers)
    assert len(citation["references"]) == 4
    for name in re.findall(r"[A-Z]\w+", methods):
        assert hasattr(tfprune.callbacks, name)


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_issue_forms_have_what_github_asks_for(name):
    form = read(f".github/ISSUE_TEMPLATE/{name}.yml")
    assert form["name"] and form["description"]
    fields = [part for part in form["body"] if part["type"] != "markdown"]
    identifiers = [field["id"] for field in fields]
    assert fields and len(set(identifiers)) == len(identifiers)
    assert all(field["attributes"]["label"] for field in fields)


@pytest.mark.parametrize("name", ["tests", "release"])
def test_workflows_run_what_exists(name):
    workflow = read(f".github/workflows/{name}.yml")
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    jobs = workflow["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert commands
    for command in commands:
        if command.startswith("make "):
            assert command.split()[1] in targets
        if command.startswith(".ci/"):
            assert os.access(ROOT / command.split()[0], os.X_OK)
    for job in jobs.values():
        needs = job.get("needs", [])
        assert set([needs] if isinstance(needs, str) else needs) <= set(jobs)
        # All versions that the project allows, where a job names several.
        if "strategy" in job:
            assert job["strategy"]["matrix"]["python"] == ["3.10", "3.11", "3.12", "3.13"]
            assert PROJECT["requires-python"] == ">=3.10,<3.14"


def test_the_tag_of_a_release_must_be_its_version():
    steps = read(".github/workflows/release.yml")["jobs"]["build"]["steps"]
    command = next(step["run"] for step in steps if "GITHUB_REF_NAME" in step.get("run", ""))
    for tag, passes in ((f"v{PROJECT['version']}", True), ("v99.0", False)):
        environment = {**os.environ, "GITHUB_REF_NAME": tag}
        done = subprocess.run(["bash", "-c", command], cwd=ROOT, env=environment)
        assert (done.returncode == 0) == passes


def test_the_hooks_before_a_commit_are_those_of_make_lint():
    (local,) = read(".pre-commit-config.yaml")["repos"]
    entries = [hook["entry"].removesuffix(" --force-exclude") for hook in local["hooks"]]
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)[1]
    for word in ("\t", "@", "$(BIN)/", "--no-print-directory ", " ."):
        recipe = recipe.replace(word, "")
    assert entries == recipe.replace("$(MAKE)", "make").splitlines()


@pytest.mark.slow
def test_the_wheel_runs_the_first_program_in_an_empty_environment():
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(
        [ROOT / ".ci/wheel"], env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"tfprune {PROJECT['version']}" in done.stdout
