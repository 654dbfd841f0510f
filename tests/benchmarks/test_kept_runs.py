"""What runs gave is kept, and comes back where the checkpoints are gone."""

import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

pytestmark = pytest.mark.tensorflow_only


@pytest.fixture
def kept_runs(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import kept_runs

    monkeypatch.setattr(kept_runs, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setattr(kept_runs, "KEPT", tmp_path / "runs")
    return kept_runs


def written(path, figures):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures))
    return path


def test_a_relative_path_is_kept_too(kept_runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path("checkpoints/half_encoder/4-epochs-seed-1/dense.json")
    kept_runs.keep(written(path, {"right": [1]}))
    assert kept_runs.kept_file(path).exists()


def test_figures_come_back_where_they_are_gone(kept_runs, tmp_path):
    folder = kept_runs.CHECKPOINTS / "half_encoder"
    figures = {"right": [1, 0, 1], "minutes": 1.23456789, "groups": {"ffn": 3}}
    path = written(folder / "4-epochs-seed-1" / "dense.json", figures)
    kept_runs.keep(path)
    first = kept_runs.kept_file(path).read_bytes()
    kept_runs.keep(path)
    assert kept_runs.kept_file(path).read_bytes() == first  # No change for git.
    path.unlink()
    kept_runs.restore(folder)
    assert json.loads(path.read_text()) == {**figures, "minutes": 1.23457}


def test_what_is_there_stays(kept_runs):
    folder = kept_runs.CHECKPOINTS / "half_encoder"
    path = written(folder / "4-epochs-seed-1" / "dense.json", {"minutes": 1})
    kept_runs.keep(path)
    written(path, {"minutes": 2})
    kept_runs.restore(folder)
    assert json.loads(path.read_text()) == {"minutes": 2}


def test_runs_elsewhere_are_not_kept(kept_runs, tmp_path):
    path = written(tmp_path / "smoke" / "4-epochs-seed-0" / "dense.json", {"minutes": 1})
    kept_runs.keep(path)
    assert not kept_runs.KEPT.exists()


def test_a_finished_run_is_not_made_again_when_only_its_figures_are_left(kept_runs, monkeypatch):
    pytest.importorskip("keras_hub")
    from small_minilm import finished, once

    folder = kept_runs.CHECKPOINTS / "half_encoder"
    path = folder / "4-epochs-seed-2" / "dense.json"
    assert once(path, lambda: {"right": [1]}) == {"right": [1]}
    path.unlink()
    assert once(path, lambda: pytest.fail("made again")) == {"right": [1]}
    path.unlink()
    assert finished(folder) == {"dense": {"2": {"right": [1]}}}
