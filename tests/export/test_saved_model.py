"""SavedModel folders: what may be replaced, and what happens when one cannot be written."""

import resource

import keras
import pytest
from keras import layers

import tfprune
from tfprune.export import is_saved_model

pytestmark = pytest.mark.tensorflow_only


@pytest.mark.parametrize("folder", ["variables", "assets", "assets.extra", "variables/deep"])
def test_files_inside_the_folders_of_a_saved_model_are_not_deleted(tmp_path, folder):
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(2)(x))
    path = tfprune.export(model, tmp_path / "saved")
    assert is_saved_model(path) and tfprune.export(model, path) == path
    (path / folder).mkdir(exist_ok=True)
    (path / folder / "notes.txt").write_text("years of work")
    with pytest.raises(ValueError, match="`path` must be new"):
        tfprune.export(model, path)
    assert (path / folder / "notes.txt").read_text() == "years of work"


def test_assets_of_its_own_belong_to_a_saved_model(tmp_path):
    (tmp_path / "words.txt").write_text("a\nb\n")
    text = keras.Input((1,), dtype="string")
    lookup = layers.StringLookup(vocabulary=str(tmp_path / "words.txt"))
    path = tfprune.export(keras.Model(text, lookup(text)), tmp_path / "saved")
    assert is_saved_model(path)
    (path / "assets").mkdir(exist_ok=True)
    (path / "assets" / "words2.txt").touch()
    assert not is_saved_model(path)


def test_a_full_disk_leaves_nothing(tmp_path):
    x = keras.Input((64,))
    model = keras.Model(x, layers.Dense(1000)(x))  # 256 kB.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError):
            tfprune.export(model, tmp_path / "saved")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())
