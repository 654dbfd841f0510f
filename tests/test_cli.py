"""The command line, in this process and in fresh ones."""

import functools
import json
import os
import platform
import subprocess
import sys
import warnings
from importlib.metadata import version

import keras
import numpy as np
import pytest

import tfprune
from tests.models import kill, noise, randomize, transformer
from tests.terminals import terminal
from tfprune import cli, commands
from tfprune.reports.comparison import compare

pytestmark = pytest.mark.sampled

COMMANDS = ("inspect", "prune", "rebuild", "export", "measure", "compare", "demo", "translate")

# Runs the command line and says on the last line which heavy modules that has imported.
MAIN = """
import sys
from tfprune import cli
try:
    code = cli.main()
except SystemExit as exit:
    code = exit.code
print("HEAVY", *sorted({"keras", "tensorflow", "numpy", "ai_edge_litert"} & set(sys.modules)))
sys.exit(code)
"""


def command(cache, *arguments):
    """A command in a fresh interpreter: its exit status, output and standard error."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_CPP_")}
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *map(str, arguments)],
        capture_output=True,
        env={**environment, "TFPRUNE_CACHE": str(cache)},
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize("words", [["--help"], ["translate", "--help"], ["demo", "--help"]])
def test_help_imports_nothing_that_takes_time(tmp_path, words):
    status, output, errors = command(tmp_path, *words)
    assert (status, errors) == (0, "")
    assert output.startswith("usage: tfprune") and output.endswith("\nHEAVY\n")


@pytest.mark.tensorflow_only
def test_a_litert_file_is_translated_without_keras_and_tensorflow(tmp_path):
    from tfprune.translation import Translator, Vocabulary, export_translator, student

    vocabulary = Vocabulary.train(["one two three four"] * 10, size=270)
    model = randomize(student(len(vocabulary), 1, 1, 8, 12, 2, max_length=16))
    translator = Translator(model, vocabulary, max_length=16)
    export_translator(translator, tmp_path / "t.tflite")
    expected = "".join(f"{t}\n" for t in translator.translate(["one two", "three"]))
    assert command(tmp_path, "translate", tmp_path / "t.tflite", "one two", "three") == (
        0,
        f"{expected}HEAVY ai_edge_litert numpy\n",
        "",
    )


def test_a_missing_extra_is_named(tmp_path, capsys, monkeypatch):
    (tmp_path / "t.tflite").touch()
    (tmp_path / "t.vocabulary").touch()
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    assert cli.main(["translate", str(tmp_path / "t.tflite"), "one"]) == 1
    assert "pip install 'tfprune[translation]'" in capsys.readouterr().err


def test_native_messages_go_to_a_file(tmp_path, capfd, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    levels = []

    def run(_):
        levels.append(os.environ["TF_CPP_MIN_LOG_LEVEL"])
        os.write(2, b"a native message\n")
        raise ValueError("what was wrong")

    monkeypatch.setattr(commands, "demo", run)
    for cache in ("cache", "file/cache"):  # The second cannot be made.
        (tmp_path / "file").touch()
        monkeypatch.setenv("TFPRUNE_CACHE", str(tmp_path / cache))
        assert cli.main(["demo"]) == 1
        assert capfd.readouterr().err == "tfprune: what was wrong\n"
    assert (tmp_path / "cache" / "tensorflow.log").read_text() == "a native message\n"
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "afterwards\n"
    assert levels == ["0", "0"] and "TF_CPP_MIN_LOG_LEVEL" not in os.environ


def test_inspect_and_rebuild(tmp_path, capsys):
    model = randomize(transformer())
    kill(model, {"ffn_in": np.arange(12) >= 3})
    model.save(tmp_path / "m.keras")
    assert cli.main(["inspect", str(tmp_path / "m.keras")]) == 0
    assert "ffn_in" in capsys.readouterr().out
    assert cli.main(["inspect", str(tmp_path / "m.keras"), "--json"]) == 0
    _, ffn = json.loads(capsys.readouterr().out)["structures"]
    assert (ffn["name"], ffn["groups"], ffn["zero"]) == ("ffn_in", 12, 9)
    assert cli.main(["rebuild", str(tmp_path / "m.keras"), str(tmp_path / "small.keras")]) == 0
    assert "Groups left" in capsys.readouterr().out
    assert (tmp_path / "small.keras").stat().st_size < (tmp_path / "m.keras").stat().st_size
    # What is small already has nothing more to cut.
    assert cli.main(["rebuild", str(tmp_path / "small.keras"), str(tmp_path / "x.keras")]) == 0
    assert "Nothing was zero" in capsys.readouterr().out and (tmp_path / "x.keras").exists()
    compared = ["compare", str(tmp_path / "m.keras"), str(tmp_path / "small.keras")]
    assert cli.main([*compared, "--no-latency"]) == 0
    assert "Groups left" in capsys.readouterr().out
    assert cli.main([*compared, "--no-latency", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["survivors"]["ffn_in"] == [3, 12]
    assert cli.main(["inspect", str(tmp_path / "none.keras")]) == 1
    assert "There is no file" in capsys.readouterr().err
    with pytest.raises(ValueError, match="There is no file"):
        cli.main(["--debug", "inspect", str(tmp_path / "none.keras")])


def test_versions(tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    shown = capsys.readouterr().out
    assert shown.startswith(f"tfprune {tfprune.__version__}, Python {platform.python_version()}")
    assert f"keras {version('keras')}\n" in shown
    status, output, _ = command(tmp_path, "--version")
    assert status == 0 and output.endswith("\nHEAVY\n")
    done = subprocess.run([sys.executable, "-m", "tfprune", "--version"], capture_output=True)
    assert done.stdout.decode() == shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example(capsys, name):
    with pytest.raises(SystemExit):
        cli.main([name, "--help"])
    text = capsys.readouterr().out
    assert f"example: tfprune {name}" in text and "%%" not in text


@pytest.mark.tensorflow_only
def test_export_in_int8(tmp_path, capsys):
    x = keras.Input((8,))
    keras.Model(x, keras.layers.Dense(64)(x)).save(tmp_path / "m.keras")
    np.savez(tmp_path / "x.npz", x=noise(32, 8))
    words = ["export", str(tmp_path / "m.keras"), str(tmp_path / "m.tflite"), "--quantize", "int8"]
    assert cli.main(words) == 1
    assert "representative_data" in capsys.readouterr().err
    assert cli.main([*words, "--data", str(tmp_path / "x.npz"), "--strict", "--integer-io"]) == 0
    from tfprune.litert import Runner

    (detail,) = Runner(tmp_path / "m.tflite").details.values()
    assert detail["dtype"] == np.int8


def test_layers_of_ones_own_are_imported(tmp_path):
    (tmp_path / "gates.py").write_text(
        "import keras\n\n\n"
        "@keras.saving.register_keras_serializable('tests_cli')\n"
        "class Gate(keras.layers.Layer):\n"
        "    def call(self, x):\n"
        "        return x * keras.ops.sigmoid(x)\n"
    )
    program = (
        "import gates, keras; "
        "keras.Sequential([keras.Input((4,)), gates.Gate(), keras.layers.Dense(2)])"
        ".save('m.keras')"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    tfprune_ = [sys.executable, "-m", "tfprune", "inspect", "m.keras"]
    run = functools.partial(subprocess.run, cwd=tmp_path, capture_output=True, text=True)
    assert run([*tfprune_, "--import", "gates.py"]).returncode == 0
    assert run([*tfprune_, "--import", "gates"]).returncode == 0
    for more, expected in (
        ([], "'Gate' is not known. The module 'gates' that defines it must be imported"),
        (["--import", "none"], "`--import` must be a module that can be imported, or a .py file"),
    ):
        done = run([*tfprune_, *more])
        assert done.returncode == 1
        assert expected in done.stderr and "config" not in done.stderr


def test_prune(tmp_path, capsys):
    import keras

    import tfprune

    model = randomize(transformer(units=24))
    model.compile("adam", "mse")
    model.save(tmp_path / "m.keras")
    x, y = noise(32, 3, 8), noise(32, 3, 3, seed=2)
    np.savez(tmp_path / "x.npz", x=x)
    np.savez(tmp_path / "xy.npz", x=x, y=y)
    words = ["prune", str(tmp_path / "m.keras"), str(tmp_path / "small.keras")]
    for data, repair, criterion in (
        ("x", "least_squares", "reconstruction"),
        ("xy", "bias", "gradient_importance"),
        ("x", "nothing", "activation"),
    ):
        more = ["--target", "parameters 60%", "--data", str(tmp_path / f"{data}.npz")]
        more += ["--repair", repair]
        assert cli.main([*words, *more]) == 0
        text = capsys.readouterr().out
        assert criterion in text and "the target is 60.0% of the parameters" in text
        small = keras.saving.load_model(tmp_path / "small.keras")
        assert small.count_params() == pytest.approx(0.6 * model.count_params(), rel=0.1)
        (tmp_path / "small.keras").unlink()
    more = ["--target", "sparsity 40%", "--data", str(tmp_path / "x.npz"), "--within", "error"]
    assert cli.main([*words, "--criterion", "reconstruction", *more]) == 0
    assert "the target is sparsity 40.0%" in capsys.readouterr().out
    groups = [s.groups for s in tfprune.find_structures(keras.saving.load_model(words[2]))]
    assert groups == [2, 7]  # The same share of each would be 1 and 16.
    (tmp_path / "small.keras").unlink()
    for target, data, match in (
        ("half", "x.npz", "`target` must be"),
        ("flops 50%", "none.npz", "There is no file"),
        ("flops 50%", "m.keras", "must be an .npz file"),
    ):
        assert cli.main([*words, "--target", target, "--data", str(tmp_path / data)]) == 1
        assert match in capsys.readouterr().err
    assert not (tmp_path / "small.keras").exists()


def test_prune_prints_json_alone(tmp_path, capsys):
    keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(8, "relu", name="hidden"), keras.layers.Dense(2)]
    ).save(tmp_path / "m.keras")
    np.savez(tmp_path / "x.npz", x=noise(32, 8))
    words = [str(tmp_path / name) for name in ("m.keras", "small.keras", "x.npz")]
    words = ["prune", *words[:2], "--data", words[2], "--target", "sparsity 50%", "--json"]
    assert cli.main(words) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["survivors"] == {"hidden": [4, 8]}
    assert "prune: 32 examples" in told.err


@pytest.mark.parametrize("options, counted", [([], 5), (["--sequence-length", "40"], 40)])
def test_prune_counts_flops_at_the_length_of_the_data(
    tmp_path, capsys, monkeypatch, options, counted
):
    """Attention counts the more, the longer the text."""
    x = keras.Input((None, 8))
    y = keras.layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    y = keras.layers.Dense(12, "relu", name="hidden")(y)
    model = randomize(keras.Model(x, keras.layers.Dense(8)(y)))
    asked = tfprune.count_flops(model, sequence_length=counted)
    model.save(tmp_path / "m.keras")
    np.savez(tmp_path / "x.npz", x=noise(8, 5, 8))
    compared = []
    monkeypatch.setattr(
        tfprune, "compare", lambda *a, **k: compared.append(compare(*a, **k)) or compared[-1]
    )
    words = [str(tmp_path / name) for name in ("m.keras", "small.keras", "x.npz")]
    words = ["prune", *words[:2], "--data", words[2], "--target", "flops 60%", "--json", *options]
    assert cli.main(words) == 0
    told = capsys.readouterr()
    before, after = json.loads(told.out)["figures"]["FLOPs"]
    assert before == asked
    assert f"prune: {after / before:.1%} of the FLOPs; the target is 60.0%" in told.err
    assert len(compared) == 1 and "Before and after" not in told.err


def test_the_length_of_the_data_is_that_of_open_axes():
    a, b = keras.Input((None, 8), name="a"), keras.Input((3,), name="b")
    model = keras.Model([a, b], [a, b])
    assert commands._length(model, {"a": noise(2, 7, 8), "b": noise(2, 3)}) == 7
    assert commands._length(model, {"b": noise(2, 9)}) == 128  # A fixed axis says nothing.
    assert commands._length(model, np.array(["a text", "another"])) == 128
    assert commands._length(keras.Model(a, a), noise(2, 6, 8)) == 6


def test_arrays_have_the_names_of_the_inputs(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    left, right = keras.Input((3,), name="left"), keras.Input((3,), name="right")
    h = keras.layers.Dense(8, "relu")(keras.layers.Concatenate()([left, right]))
    keras.Model([left, right], keras.layers.Dense(2)(h)).save("m.keras")
    words = ["prune", "m.keras", "out.keras", "--target", "sparsity 50%", "--data", "data.npz"]
    np.savez("data.npz", left=noise(8, 3), right=noise(8, 3))
    assert cli.main(words) == 0
    for arrays in ({"x": noise(8, 3)}, {"left": noise(8, 3), "rihgt": noise(8, 3)}):
        np.savez("data.npz", **arrays)
        capsys.readouterr()
        assert cli.main(words) == 1
        said = capsys.readouterr().err
        assert "`--data` must hold the arrays 'left', 'right', as the model has inputs" in said
        assert f"Received: {', '.join(map(repr, arrays))}\n" in said


@pytest.fixture
def bad(tmp_path):
    """A folder with a model, and with files that commands cannot use."""
    keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)]).save(tmp_path / "none.keras")
    transformer().save(tmp_path / "m.keras")
    np.savez(tmp_path / "wide.npz", x=noise(4, 3, 9))
    np.savez(tmp_path / "named.npz", other=noise(4, 3, 8))
    np.savez(tmp_path / "labels.npz", x=noise(4, 3, 8), labels=noise(4, 2))
    np.savez(tmp_path / "objects.npz", x=np.array([{}, None], dtype=object))
    np.savez(tmp_path / "x.npz", x=noise(4, 3, 8))
    (tmp_path / "notes.txt").write_text("these are my notes")
    return tmp_path


PRUNE = "prune m.keras out.keras --data {} --target"


@pytest.mark.parametrize(
    "words, reason",
    [
        ("inspect absent.keras", "There is no file 'absent.keras'"),
        ("inspect notes.txt", "'notes.txt' is no .keras file"),
        ("rebuild m.keras out.h5", "must end in '.keras'. Received: 'out.h5'"),
        ("rebuild m.keras notes.txt/out.keras", "`path` must be writable"),
        ("prune m.keras out.h5 --data x.npz --target sparsity", "must end in '.keras'"),
        (f"{PRUNE.format('x.npz')} half", "`target` must be 'sparsity', 'parameters' or"),
        (f"{PRUNE.format('x.npz')} sparsity 150%", "wants a share from 0 to 1"),
        (f"{PRUNE.format('absent.npz')} sparsity 50%", "There is no file 'absent.npz'"),
        (f"{PRUNE.format('notes.txt')} sparsity 50%", "must be an .npz file"),
        (f"{PRUNE.format('objects.npz')} sparsity 50%", "must be an .npz file"),
        (f"{PRUNE.format('wide.npz')} sparsity 50%", "(4, 3, 9)"),
        (f"{PRUNE.format('named.npz')} sparsity 50%", "an array 'x', as"),
        (f"{PRUNE.format('labels.npz')} sparsity 50%", "Received: 'x', 'labels'"),
        ("prune none.keras out.keras --data x.npz --target sparsity 50%", "nothing that `prune`"),
        ("compare m.keras none.keras --no-latency", "`after` must be made from `before`"),
        ("compare m.keras absent.keras", "There is no file 'absent.keras'"),
        ("measure absent.tflite", "'absent.tflite', which is no file"),
        ("measure notes.txt", "'notes.txt', which LiteRT cannot read"),
        ("translate notes.txt word", "must be a .keras or .tflite file or a SavedModel folder"),
    ],
)
def test_bad_input_is_said_in_one_line(bad, capsys, monkeypatch, words, reason):
    monkeypatch.chdir(bad)
    before = sorted(bad.iterdir())
    head, target, share = words.partition("--target ")
    words = [*head.split(), *([target.strip(), share] if target else [])]
    assert cli.main(words) == 1
    told = capsys.readouterr()
    assert told.err.startswith("tfprune: ") and told.err.count("\n") == 1
    assert reason in told.err
    assert sorted(bad.iterdir()) == before


@pytest.mark.tensorflow_only
@pytest.mark.parametrize(
    "words, reason",
    [
        ("export absent.keras out", "There is no file 'absent.keras'"),
        ("export m.keras out.keras", "`path` must end in '.tflite'"),
        ("export m.keras notes.txt/out", "`path` must be writable"),
        ("export m.keras out --quantize float16", "`quantize` applies to LiteRT files"),
        ("export m.keras out.tflite --quantize int8 --data wide.npz", "(4, 3, 9)"),
        ("export m.keras out.tflite --quantize int8 --data notes.txt", "must be an .npz file"),
        ("measure m.keras none.keras absent.tflite --runs 1", "'absent.tflite', which is no file"),
    ],
)
def test_bad_input_for_litert_is_said_in_one_line(bad, capsys, monkeypatch, words, reason):
    test_bad_input_is_said_in_one_line(bad, capsys, monkeypatch, words, reason)


@pytest.mark.parametrize(
    "words, reason",
    [
        ("measure m.keras --runs 0", "--runs: must be a positive integer. Received: '0'"),
        ("compare a.keras b.keras --threads -1", "--threads"),
        ("export m.keras out --sequence-length long", "--sequence-length: must be a positive"),
        ("export m.keras out --quantize int4", "invalid choice: 'int4'"),
        ("prune m.keras out.keras --target half", "required: --data"),
        ("inspect", "required: model"),
    ],
)
def test_wrong_arguments_are_said_without_running_anything(capsys, words, reason):
    with pytest.raises(SystemExit) as stopped:
        cli.main(words.split())
    assert stopped.value.code == 2
    assert reason in capsys.readouterr().err


def test_what_no_check_has_foreseen(capsys, monkeypatch):
    def run(_):
        return {}["absent"]

    monkeypatch.setattr(commands, "demo", run)
    assert cli.main(["demo"]) == 1
    assert capsys.readouterr().err == "tfprune: KeyError: 'absent' (--debug shows where)\n"
    with pytest.raises(KeyError):
        cli.main(["--debug", "demo"])


def test_the_demo_names_all_that_is_missing(tmp_path, capsys, monkeypatch):
    for package in ("matplotlib", "num2words", "sacrebleu"):
        monkeypatch.setitem(sys.modules, package, None)
    assert cli.main(["demo", "--fast", "--folder", str(tmp_path / "demo")]) == 1
    told = capsys.readouterr().err
    assert "the packages `matplotlib`, `num2words` and `sacrebleu`, which are not installed" in told
    assert "pip install 'tfprune[plots,translation]'" in told
    assert not (tmp_path / "demo").exists()


@pytest.mark.tensorflow_only
def test_export_and_measure(tmp_path, capsys):
    transformer().save(tmp_path / "m.keras")
    file = tmp_path / "m.tflite"
    assert cli.main(["export", str(tmp_path / "m.keras"), str(file)]) == 0
    assert capsys.readouterr().out == f"{file} written and checked\n"
    files = [str(file), str(tmp_path / "m.keras")]
    assert cli.main(["measure", *files, "--runs", "2", "--sequence-length", "4"]) == 0
    shown = capsys.readouterr().out
    assert "Milliseconds of 2 calls, 1 thread" in shown and "1.00" in shown
    assert "m.tflite" in shown and "m.keras" in shown
    assert max(map(len, shown.splitlines())) <= 80 < len(files[0] + files[1])
    assert cli.main(["measure", *files, "--runs", "2", "--sequence-length", "4", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["models"]
    assert [first["name"], second["name"]] == files
    assert first["ratio"] == 1.0 and second["shapes"] == {"x": [1, 4, 8]}
    words = ["measure", files[1], "--runs", "2", "--sequence-length", "4"]
    assert cli.main([*words, "--quantize", "dynamic_int8"]) == 0
    assert "models as dynamic_int8 files" in " ".join(capsys.readouterr().out.split())
    words = ["compare", files[1], files[1], "--sequence-length", "4", "--quantize", "dynamic_int8"]
    assert cli.main(words) == 0
    assert "LiteRT ms, dynamic_int8" in capsys.readouterr().out


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("name", ["measure", "compare"])
def test_progress_stays_out_of_json_on_a_terminal(tmp_path, name):
    path = str(tmp_path / "m.keras")
    transformer().save(path)
    words = [name, path, path, "--sequence-length", "4", "--json"]
    with terminal() as output, pytest.MonkeyPatch.context() as patch:
        errors = type(output)()
        patch.setattr(sys, "stderr", errors)
        assert cli.main(words) == 0
    assert json.loads(output.getvalue())
    assert "timing: preparing model 2 of 2" in errors.getvalue()


def test_every_command_is_listed(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    shown = capsys.readouterr().out
    for name in COMMANDS:
        assert name in shown
    with pytest.raises(SystemExit):
        cli.main(["unknown"])
    assert "invalid choice: 'unknown'" in capsys.readouterr().err


DAMAGED = {
    "cut": lambda content: content[: len(content) // 2],
    "text": lambda content: b"these are my notes",
    "empty": lambda content: b"",
}


def flipped_inside(content):
    """One bit of the data in the middle of the file."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("how", ["flipped", "cut", "text", "empty"])
def test_a_damaged_file_is_said_in_one_line(tmp_path, capsys, how):
    transformer().save(tmp_path / "m.keras")
    change = flipped_inside if how == "flipped" else DAMAGED[how]
    (tmp_path / "m.keras").write_bytes(change((tmp_path / "m.keras").read_bytes()))
    (tmp_path / "t.tflite").write_bytes(b"these are my notes"[: 0 if how == "empty" else None])
    (tmp_path / "m.vocabulary").touch()
    model, output = str(tmp_path / "m.keras"), str(tmp_path / "out")
    for words in (
        ["inspect", model],
        ["rebuild", model, f"{output}.keras"],
        ["export", model, output],
        ["measure", model],
        ["measure", str(tmp_path / "t.tflite")],
        ["translate", model, "one"],
    ):
        assert cli.main(words) == 1, words
        said = capsys.readouterr().err
        assert said.startswith("tfprune: ") and said.count("\n") == 1, words
        assert "m.keras' is" in said or "t.tflite', which is none or damaged" in said, words
    assert not list(tmp_path.glob("out*"))


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("kind", ["ResourceExhaustedError", "UnknownError"])
def test_a_full_disk_is_said_in_one_line(tmp_path, capsys, monkeypatch, kind):
    import keras
    import tensorflow as tf

    def full(self, path, **_):
        os.makedirs(path)
        raise getattr(tf.errors, kind)(None, None, "variables.data; No space left on device")

    transformer().save(tmp_path / "m.keras")
    monkeypatch.setattr(keras.Model, "export", full)
    assert cli.main(["export", str(tmp_path / "m.keras"), str(tmp_path / "saved")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("tfprune: The SavedModel cannot be written: ") and "No space" in said
    assert said.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["m.keras"]


def test_a_process_that_dies_in_an_import_says_why(tmp_path):
    (tmp_path / "tensorflow.py").write_text(
        "import os\nos.write(2, b'this CPU is too old\\n')\nos.abort()\n"
    )
    (tmp_path / "m.keras").touch()
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    }
    environment = {k: v for k, v in environment.items() if not k.startswith("TF_CPP_")}
    environment["TFPRUNE_CACHE"] = str(tmp_path / "cache")
    for program in (
        "import tfprune, tensorflow",
        "import sys\nfrom tfprune import cli, commands\ndef run(_): import tensorflow\n"
        "commands.inspect = run\nsys.exit(cli.main(['inspect', 'm.keras']))",
    ):
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, env=environment, cwd=tmp_path
        )
        assert done.returncode < 0
        assert b"this CPU is too old" in done.stderr


@pytest.mark.tensorflow_only
def test_sizes_and_float16_of_an_exported_file(tmp_path):
    import keras

    from tfprune.litert import Runner

    x = keras.Input((None, 8))
    keras.Model(x, keras.layers.Dense(64)(x)).save(tmp_path / "m.keras")
    options = ["--batch-size", "1", "--sequence-length", "6", "--quantize", "float16"]
    assert (
        cli.main(["export", str(tmp_path / "m.keras"), str(tmp_path / "m.tflite"), *options]) == 0
    )
    (detail,) = Runner(tmp_path / "m.tflite").details.values()
    assert list(detail["shape"]) == [1, 6, 8]


def test_warnings_come_in_one_line(monkeypatch, capsys):
    def inspect(options):
        warnings.warn("Two\nlines.", stacklevel=1)
        return "done"

    monkeypatch.setattr(commands, "inspect", inspect)
    assert cli.main(["inspect", "m.keras"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "tfprune: warning: Two lines.\n" and captured.out == "done\n"
