"""A compiled model can be exported after a fit in which its optimizer had further variables."""

import keras
import pytest

import tfprune
from tests.models import noise
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
