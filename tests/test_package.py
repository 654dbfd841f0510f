"""What importing tfprune does, in which order, and what it does without its extras."""

import importlib
import json
import logging
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import pytest

from tfprune.native_messages import filtered

try:
    import tomllib
except ImportError:  # Python 3.10, where pytest brings it.
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
EXTRAS = (
    "gguf",
    "keras_hub",
    "matplotlib",
    "num2words",
    "sacrebleu",
    "safetensors",
    "sentencepiece",
    "tensorflow_model_optimization",
    "tensorflow_text",
)

pytestmark = pytest.mark.tensorflow_only


def run(code, folder=None):
    """Runs code in a fresh interpreter in which TensorFlow's log level is not set."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_CPP_")}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=folder
    )


@pytest.mark.tensorflow_only
def test_pruning_needs_no_extra_and_prints_no_native_messages():
    done = run(
        f"""
import sys
sys.modules.update(dict.fromkeys({EXTRAS!r}))  # Importing any of them fails.
import tfprune
heavy = {{"ai_edge_litert", "keras", "numpy", "rich", "tensorflow"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
import keras
assert keras.saving.get_registered_object("tfprune>Pruned")
import pathlib, tempfile
import numpy as np
before = set(sys.modules)
import tfprune.callbacks
assert not {{"ai_edge_litert", "tensorflow.lite", "jax"}} & (set(sys.modules) - before)
layers = [keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)]
model = keras.Sequential(layers)
model.compile("adam", "mse")
lasso = tfprune.callbacks.GroupLasso("ffn", strength=0.0, verbose=0)
model.fit(np.ones((4, 4)), np.ones((4, 1)), verbose=0, callbacks=[lasso])
tfprune.find_structures(model)[0].scale(np.arange(8) < 3)
small = tfprune.rebuild(model)
path = tfprune.export(small, pathlib.Path(tempfile.mkdtemp()) / "small.tflite")
print(path.stat().st_size > 0, tfprune.compare(model, small), tfprune.measure_latency(path, runs=2))
"""
    )
    assert done.stdout.startswith("True"), done.stderr
    assert done.stderr == ""


# Importing these fails as if they were not installed; those who train on JAX need none of them.
NOT_THERE = """
import sys
class NotThere:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"tensorflow", "ai_edge_litert", *missing}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, NotThere())
"""


def test_pruning_on_jax_needs_no_tensorflow(tmp_path):
    done = run(
        f"""
import os
os.environ["KERAS_BACKEND"] = "jax"
missing = {EXTRAS!r}{NOT_THERE}
import keras, numpy as np, tfprune
from tfprune.callbacks import GroupLasso, ImportancePruning
x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
layers = [keras.Input((4,)), keras.layers.Dense(8, "relu", name="hidden"), keras.layers.Dense(1)]
model = keras.Sequential(layers)
model.compile("adam", "mse")
for callback in (
    GroupLasso("ffn", strength=0.0, verbose=0),
    ImportancePruning(target=tfprune.Sparsity(0.5), data=(x, x[:, :1]), verbose=0),
):
    model.fit(x, x[:, :1], epochs=2, verbose=0, callbacks=[callback])
small = tfprune.rebuild(model)
np.testing.assert_allclose(small(x), model(x), atol=1e-5)
print(tfprune.prune(model, tfprune.Sparsity(0.75), (x, x[:, :1]), verbose=0).count_params())
found = tfprune.compare(model, small)
print(found.figures["parameters"], found.figures["FLOPs"], found.survivors)
print(*found.notes)
os.mkdir("translator")
for file in ("file.tflite", "translator/saved_model.pb"):
    open(file, "w").close()
for use in (
    lambda: tfprune.export(small, "small.tflite"),
    lambda: tfprune.export(small, "saved"),
    lambda: tfprune.measure_latency(small),
    lambda: tfprune.measure_latency("file.tflite"),
    lambda: tfprune.translation.load_translator("translator"),
):
    try:
        use()
    except ImportError as error:
        print(error)
""",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    pruned, numbers, note, *errors = done.stdout.splitlines()
    assert pruned == "13"  # 2 units of 4 + 1 + 1, and the bias behind them.
    assert numbers == "(49, 25) (80, 40) {'hidden': (4, 8)}"
    both = "This needs the packages `tensorflow` and `ai_edge_litert`, which are not installed."
    assert note.startswith(f"LiteRT was not timed: {both} ")
    assert [line.partition(", which")[0] for line in errors] == [
        "This needs the packages `tensorflow` and `ai_edge_litert`",
        "This needs the package `tensorflow`",
        "This needs the packages `tensorflow` and `ai_edge_litert`",
        "This needs the package `ai_edge_litert`",
        "This needs the package `tensorflow`",
    ]
    assert all("pip install 'tfprune[export]'" in line for line in (note, *errors))


@pytest.mark.parametrize(
    "backend, extra, other", [("tensorflow", "export", "jax"), ("jax", "jax", "export")]
)
def test_a_keras_without_its_backend_says_how_to_get_one(tmp_path, backend, extra, other):
    done = run(
        f"""
import os
os.environ["KERAS_BACKEND"] = {backend!r}
missing = ["jax"]{NOT_THERE}
from tfprune import cli
open("m.keras", "w").close()
import zipfile
zipfile.ZipFile("m.keras", "w").close()
sys.exit(cli.main(["inspect", "m.keras"]))
""",
        tmp_path,
    )
    assert done.returncode == 1
    said = done.stderr
    assert said.startswith(f"tfprune: Keras runs on {backend}, which is not installed. ")
    assert said.count("\n") == 1
    assert f"`pip install 'tfprune[{extra}]'`; or" in said
    assert f"`pip install 'tfprune[{other}]'`, and set" in said


def test_a_module_imported_before_the_package_and_before_keras():
    done = run(
        """
import tfprune.rebuild.plan, tfprune.export, tfprune.reports.comparison, tfprune
import json, keras, pkgutil
assert all(callable(f) for f in (tfprune.rebuild, tfprune.export, tfprune.compare))
import tfprune.translation.student, tfprune.datasets.minilm
assert callable(tfprune.translation.student) and callable(tfprune.datasets.minilm)
def registered():
    return {k: c.__module__ for k, c in keras.saving.get_custom_objects().items()}
before = registered()
for package in (tfprune, tfprune.callbacks):
    for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        __import__(info.name)
print(json.dumps([before, registered()]))
"""
    )
    assert done.returncode == 0, done.stderr
    before, with_every_module = json.loads(done.stdout.splitlines()[-1])
    assert "tfprune>Pruned" in before
    # `import_hooks.SERIALIZABLE` names all modules that define such classes.
    assert before == with_every_module
    # Here Keras was imported first.
    assert (
        before.items()
        <= {k: c.__module__ for k, c in keras.saving.get_custom_objects().items()}.items()
    )


def test_nothing_native_is_on_the_screen_where_tensorflow_was_imported_first():
    """Inputs are tried that the embedding cannot read: TensorFlow says INVALID_ARGUMENT."""
    done = run(
        """
import pathlib, sys, tempfile
import keras, numpy as np
inputs = keras.Input((None,), dtype="int32")
h = keras.layers.Dense(16, "relu")(keras.layers.Embedding(30, 40)(inputs))
model = keras.Model(inputs, keras.layers.GlobalMaxPooling1D()(keras.layers.Dense(8)(h)))
import tfprune
folder = pathlib.Path(tempfile.mkdtemp())
print("imported", file=sys.stderr, flush=True)
data = np.ones((4, 8), "int32")
small = tfprune.prune(model, tfprune.Sparsity(0.5), data, verbose=0)
print(tfprune.compare(model, small))
tfprune.find_structures(model)[0].scale(np.arange(16) < 8)
tfprune.export(tfprune.rebuild(model), folder / "small.tflite")
for quantize in ("float16", "dynamic_int8"):
    tfprune.export(small, folder / "small.tflite", quantize=quantize)
tfprune.export(
    small, folder / "small.tflite", quantize="int8", representative_data=data, sequence_length=8)
tfprune.export(small, folder / "saved")
"""
    )
    assert "LiteRT ms" in done.stdout, done.stderr
    assert done.stderr.partition("imported\n")[2] == ""


def test_setting_the_log_level_shows_what_tensorflow_says():
    noisy = "import os; os.environ['TF_CPP_MIN_LOG_LEVEL'] = {!r}\n" + (
        "from tfprune.native_messages import filtered\n"
        "with filtered():\n"
        "    os.write(2, b'I0000 00:00:1795.1 12 port.cc:153] oneDNN is on.\\n')\n"
        "    os.write(2, b'E0000 00:00:1795.2 12 cuda.cc:52] failed call\\n')\n"
        "    os.write(2, b'WARNING: All log messages before absl::InitializeLog() is called\\n')\n"
        "    os.write(2, b'something else: INFO: stays\\n')\n"
    )
    lines = {level: run(noisy.format(level)).stderr.splitlines() for level in "0123"}
    assert [len(lines[level]) for level in "0123"] == [4, 1, 2, 1]  # JAX sets 1 by itself.
    assert "failed call" in lines["2"][0] and lines["3"] == ["something else: INFO: stays"]


def test_standard_error_comes_back(capfd, monkeypatch):
    def other_thread():
        with filtered():  # The first thread has it already.
            os.write(2, b"INFO: of another thread\n")

    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    with pytest.raises(KeyError), filtered():
        os.write(2, b"before the error\n")
        raise KeyError
    with filtered(), ThreadPoolExecutor() as pool:
        with filtered():
            os.write(2, b"INFO: of LiteRT\n")
        pool.submit(other_thread).result()
        os.write(2, b"WARNING: of LiteRT\n")
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "before the error\nafterwards\n"


def test_the_python_logger_of_tensorflow_tells_warnings_alone_meanwhile(caplog, monkeypatch):
    logger = logging.getLogger("tensorflow")
    monkeypatch.setattr(logger, "propagate", True)
    with caplog.at_level(logging.INFO, "tensorflow"):
        for level in ("3", "0"):
            monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", level)
            with filtered():
                logger.info("Assets written at level %s", level)
                logger.warning("a warning at level %s", level)
        logger.info("afterwards")
    told = ["a warning at level 3", "Assets written at level 0", "a warning at level 0"]
    assert caplog.messages == [*told, "afterwards"]


@pytest.mark.parametrize("name", ["tfprune", "tfprune.translation", "tfprune.datasets"])
def test_the_public_names_are_there(name):
    package = importlib.import_module(name)
    stub = Path(package.__file__).with_suffix(".pyi").read_text()
    listed = re.findall(r'"(\w+)"', stub.partition("__all__ = [")[2])
    assert sorted(listed) == sorted(package.__all__) == sorted(dir(package))
    for public in listed:
        assert getattr(package, public).__name__.rpartition(".")[2] == public
    with pytest.raises(AttributeError, match="nothing"):
        _ = package.nothing


def test_the_extras_bring_what_they_are_named_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {k: " ".join(v) for k, v in project["optional-dependencies"].items()}
    sources = [p.read_text() for d in ("tfprune", "callbacks") for p in (ROOT / d).rglob("*.py")]
    required = set(re.findall(r'require\("(\w+)[\w.]*", extra="(\w+)"\)', "\n".join(sources)))
    assert {extra for _, extra in required} >= {"plots", "translation"}
    for module, extra in required:
        assert module.replace("_", "-") in extras[extra]
    # Whoever trains on JAX installs neither with `tfprune[jax]`; what needs TensorFlow brings both.
    for heavy in ("tensorflow", "ai-edge-litert"):
        assert heavy in extras["export"] and heavy not in " ".join(project["dependencies"])
        assert heavy not in extras["jax"] and "tfprune" not in extras["jax"]
    for extra, needs in extras.items():
        if "tensorflow" in needs and extra != "export":
            assert "tfprune[export]" in needs, extra
    missing = {
        e for e in extras if e not in ("all", "dev") and e not in extras["all"] + extras["dev"]
    }
    assert missing == set() and "tfprune[all," in extras["dev"]


def test_what_is_missing_is_named_with_its_extra(monkeypatch, tmp_path):
    from tfprune.datasets import number_words
    from tfprune.extras import require
    from tfprune.reports.plots import survivors
    from tfprune.translation import Vocabulary, score

    for name in list(sys.modules):
        if name.partition(".")[0] in EXTRAS:
            monkeypatch.setitem(sys.modules, name, None)
    for name in EXTRAS:
        monkeypatch.setitem(sys.modules, name, None)
    for extra, use in (
        ("plots", lambda: survivors({"a": (1, 2)})),
        ("translation", lambda: number_words(count=20)),
        ("translation", lambda: score(["a"], ["a"])),
        ("translation", lambda: Vocabulary.train(["a b c"])),
        ("translation", lambda: Vocabulary(b"")),
    ):
        with pytest.raises(ImportError, match=rf"pip install 'tfprune\[{extra}\]'"):
            use()
    # A package that is there and lacks something itself keeps its own error.
    (tmp_path / "broken_package.py").write_text("import not_there")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="No module named 'not_there'"):
        require("broken_package", extra="plots")
