"""Files of rebuilt models that keep their class, in processes with and without tfprune."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

from tests.models import outputs, randomize, transformer
from tests.rebuild.test_pruned import Net, noise
from tfprune.rebuild import rebuild
from tfprune.structures import find_structures

pytestmark = pytest.mark.sampled


def halved(model):
    return rebuild(
        model, keep={s.name: np.arange(s.groups) % 2 == 0 for s in find_structures(model)}
    )


def net():
    model = Net()
    model(noise(2, 5, 4))
    return halved(randomize(model))


def load_elsewhere(path, first):
    """Loads a file in a process that first runs some code; returns how it ended, and its lines."""
    code = f"{first}; import keras; keras.saving.load_model({str(path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return done.returncode, done.stderr.strip().splitlines()


@pytest.mark.slow
@pytest.mark.parametrize(
    "first", ["import sys; sys.modules['tfprune'] = None", "pass"], ids=["missing", "not imported"]
)
def test_the_last_line_says_that_tfprune_is_to_be_imported(first, tmp_path):
    path = tmp_path / "small.keras"
    inside = net()
    x = keras.Input((5, 4))
    for model in (inside, keras.Model(x, layers.Dense(1)(inside(x)))):
        model.save(path)
        status, lines = load_elsewhere(path, first)
        assert status != 0 and "needs `import tfprune` before it is loaded" in lines[-1]


@pytest.mark.parametrize(
    "imports", ["import tfprune, keras", "import keras, tfprune"], ids=["tfprune", "keras"]
)
def test_a_process_that_only_imports_tfprune_loads_it(imports, tmp_path):
    path = tmp_path / "small.keras"
    small = net()
    small.save(path)
    status, lines = load_elsewhere(path, f"{imports}, tests.rebuild.test_pruned")
    assert status == 0, lines[-1]


@pytest.mark.slow
def test_a_rebuilt_model_of_layers_of_keras_needs_nothing(tmp_path):
    halved(randomize(transformer())).save(tmp_path / "small.keras")
    first = "import sys; sys.modules['tfprune'] = None"
    assert load_elsewhere(tmp_path / "small.keras", first)[0] == 0


def test_the_form_in_which_files_were_written_before():
    small = net()
    config = keras.saving.serialize_keras_object(small)
    assert "tests>Net" not in (config["class_name"], config["registered_name"])
    old = {"module": Net.__module__, "class_name": "Net", "registered_name": "tfprune>Pruned"}
    loaded = keras.saving.deserialize_keras_object({**config, **old})
    assert isinstance(loaded, Net) and loaded.count_params() == small.count_params()
    loaded.set_weights(small.get_weights())
    x = noise(2, 5, 4)
    np.testing.assert_array_equal(outputs(loaded, x), outputs(small, x))
