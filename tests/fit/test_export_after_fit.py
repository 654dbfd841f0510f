"""A compiled model can be exported after a fit in which its optimizer had further variables."""

import keras
import pytest

import tfprune
from tests.models import Killed, noise
from tfprune.callbacks import HardConcreteGates, ImportancePruning

HALF = tfprune.Sparsity(0.5)


@pytest.mark.tensorflow_only
@pytest.mark.parametrize(
    "callback",
    [
        lambda: HardConcreteGates(target=HALF, verbose=0),
        lambda: ImportancePruning(target=HALF, criterion="magnitude", verbose=0),
    ],
    ids=["trained gates", "no gates"],
)
def test_a_compiled_functional_model_is_exported(callback, tmp_path):
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(8, "relu")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
    model.compile("adam", "mse")
    model.fit(noise(16, 4), noise(16, 1), verbose=0, callbacks=[callback()])
    # Exported as it is, optimizer and all; a Sequential model would be wrapped.
    assert tfprune.export(model, tmp_path / "model.tflite").exists()


@pytest.mark.tensorflow_only
def test_a_fit_that_was_interrupted_leaves_nothing_in_the_way(tmp_path):
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(8, "relu")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
    model.compile("adam", "mse")
    x, y = noise(16, 4), noise(16, 1)
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, verbose=0, callbacks=[HardConcreteGates(target=HALF, verbose=0), Killed(0)])
    assert tfprune.export(model, tmp_path / "model.tflite").exists()
    assert len(model.weights) == 4
    model.fit(x, y, verbose=0, callbacks=[HardConcreteGates(target=HALF, verbose=0)])
