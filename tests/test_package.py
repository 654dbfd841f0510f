import json
import os
import subprocess
import sys

import pytest

from tests.models import kill, randomize, transformer
from tfprune import cli

pytestmark = pytest.mark.tensorflow_only


def test_import_brings_in_nothing_heavy():
    code = (
        "import sys, json, keras\n"
        "before = set(sys.modules)\n"
        "import tfprune, tfprune.callbacks\n"
        "print(json.dumps(sorted({n.split('.')[0] for n in set(sys.modules) - before})))\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(out.stdout.strip().splitlines()[-1]))
    heavy = {
        "tensorflow_model_optimization",
        "tensorflow_text",
        "matplotlib",
        "sacrebleu",
        "ai_edge_litert",
        "keras_hub",
        "sentencepiece",
        "tf_keras",
    }
    assert "tfprune" in loaded and not loaded & heavy


def test_functions_are_functions_whatever_is_imported_first():
    code = "import tfprune.rebuild.plan, tfprune.export, tfprune.reports.comparison, tfprune\n" + (
        "assert all(callable(f) for f in (tfprune.rebuild, tfprune.export, tfprune.compare))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_native_notes_go_to_a_file(tmp_path, capfd, monkeypatch):
    def run(_):
        os.write(2, b"a native note\n")
        raise ValueError("what was wrong")

    monkeypatch.setattr(cli, "_demo", run)
    for cache in ("cache", "file/cache"):  # The second cannot be made.
        (tmp_path / "file").touch()
        monkeypatch.setenv("TFPRUNE_CACHE", str(tmp_path / cache))
        assert cli.main(["demo"]) == 1
        assert capfd.readouterr().err == "tfprune: what was wrong\n"
    assert (tmp_path / "cache" / "tensorflow.log").read_text() == "a native note\n"
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "afterwards\n"


def test_command_line(tmp_path, capsys):
    import numpy as np

    model = randomize(transformer())
    kill(model, {"ffn_in": np.arange(12) >= 3})
    model.save(tmp_path / "m.keras")
    assert cli.main(["inspect", str(tmp_path / "m.keras")]) == 0
    assert "ffn_in" in capsys.readouterr().out
    assert cli.main(["rebuild", str(tmp_path / "m.keras"), str(tmp_path / "small.keras")]) == 0
    assert "Groups left" in capsys.readouterr().out
    assert (tmp_path / "small.keras").stat().st_size < (tmp_path / "m.keras").stat().st_size
    assert cli.main(["inspect", str(tmp_path / "none.keras")]) == 1
    assert "There is no file" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    shown = capsys.readouterr().out
    for command in ("inspect", "rebuild", "export", "measure", "demo", "translate"):
        assert command in shown
