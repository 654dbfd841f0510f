"""The notebooks run from the first cell to the last, and open and install themselves on Colab."""

import importlib.metadata
import importlib.util
import json
import re
import runpy
from pathlib import Path

import pytest

pytestmark = pytest.mark.tensorflow_only

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))

# A program beside the notebooks, not a module of the package.
RUN = runpy.run_path(str(NOTEBOOKS[0].parent / "run.py"))
cleaned, fingerprint = RUN["cleaned"], RUN["fingerprint"]

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return pytest.importorskip("nbformat").read(path, as_version=4)


def install_cell(notebook):
    return next(cell for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.slow
@every_notebook
def test_notebook_runs(path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("TFPRUNE_TINY", "1")
    monkeypatch.setenv("TFPRUNE_FAST", "1")
    notebook = read(path)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    assert not install_cell(notebook).outputs  # tfprune is installed.
    last = [cell for cell in notebook.cells if cell.cell_type == "code"][-1]
    assert len(last.outputs[-1].text.strip().splitlines()) >= 1
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    pictures = sum("image/png" in out.get("data", {}) for out in outputs)
    drawn = re.compile(r"\.plot\(\)|\bplots\.\w+\(")
    assert pictures == sum(bool(drawn.search(cell.source)) for cell in notebook.cells)


@every_notebook
def test_the_first_cell_opens_this_notebook_in_colab(path):
    first = read(path).cells[0]
    assert first.cell_type == "markdown" and "[![Open in Colab]" in first.source
    assert (
        f"https://colab.research.google.com/github/tfprune/tfprune/blob/main/notebooks/{path.name})"
        in (first.source)
    )


class Machine:
    """A machine as the first code cell sees it; `pip` brings the newest versions."""

    def __init__(self, versions, newest):
        self.versions, self.newest, self.commands = dict(versions), newest, []

    def run_line_magic(self, name, line):
        self.commands.append((name, line))
        self.versions.update(self.newest)

    def find_spec(self, name):
        return name if name in self.versions else None

    def version(self, name):
        if name not in self.versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return self.versions[name]


NEWEST = {"tfprune": "0.1.0", "tensorflow": "2.21.0", "keras": "3.15.1", "numpy": "2.1.0"}
OF_COLAB = {"tensorflow": "2.19.0", "keras": "3.10.0", "numpy": "2.1.0"}


@every_notebook
@pytest.mark.parametrize(
    ("versions", "installs", "upgraded"),
    [
        (OF_COLAB, True, "Upgraded: tensorflow, keras. Restart the runtime"),
        ({}, True, None),
        (NEWEST, False, None),
        ({**OF_COLAB, "tfprune": "0.1.0"}, False, None),
    ],
    ids=["colab", "bare", "after a restart", "tfprune is there"],
)
def test_the_first_code_cell(path, versions, installs, upgraded, monkeypatch):
    inputtransformer2 = pytest.importorskip("IPython.core.inputtransformer2")
    source = install_cell(read(path)).source
    code = inputtransformer2.TransformerManager().transform_cell(source)
    machine = Machine(versions, NEWEST)
    monkeypatch.setattr(importlib.util, "find_spec", machine.find_spec)
    monkeypatch.setattr(importlib.metadata, "version", machine.version)
    run = compile(code, path.name, "exec")
    names = {"get_ipython": lambda: machine}
    if upgraded:
        with pytest.raises(RuntimeError, match=upgraded):
            exec(run, names)
    else:
        exec(run, names)
    assert len(machine.commands) == installs
    for name, line in machine.commands:
        assert name == "pip" and line.startswith("install -q --upgrade") and "tfprune[" in line


@every_notebook
def test_outputs_are_of_the_code_that_is_shown(path):
    notebook = read(path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    run_from = notebook.metadata.get("tfprune", {}).get("run_from")
    if run_from is None:
        assert not any(cell.outputs or cell.execution_count for cell in code)
        return
    assert run_from == fingerprint(notebook), f"run `python notebooks/run.py {path.name}` again"
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    text = json.dumps([cell.outputs for cell in code])
    checkouts = re.escape(f"/{Path(__file__).resolve().parts[1]}/")  # Where this one lies.
    assert not re.search(rf"/tmp/|/home/|{checkouts}|Traceback|WARNING", text)


def test_lines_that_were_written_over_are_not_kept():
    v4 = pytest.importorskip("nbformat.v4")
    outputs = [
        v4.new_output("stream", name="stderr", text="a warning\n"),
        v4.new_output("stream", name="stdout", text="Epoch 1\n1/2\r2/2\n"),
        v4.new_output("stream", name="stdout", text="WARNING:tensorflow:slow\ndone\n"),
        v4.new_output("display_data", {"text/plain": "a table"}),
        v4.new_output("stream", name="stdout", text="after it"),
    ]
    kept = cleaned(outputs)
    assert [out.get("text") for out in kept] == ["Epoch 1\n2/2\ndone\n", None, "after it"]


def test_layout_is_not_code():
    v4 = pytest.importorskip("nbformat.v4")
    one, same, other = (
        v4.new_notebook(cells=[v4.new_code_cell(code)]) for code in ("f(1,\n 2)", "f(1, 2)", "f(1)")
    )
    assert fingerprint(one) == fingerprint(same) != fingerprint(other)
