"""What is saved amid a fit is the model as it computes then, whoever saves it."""

import copy
import warnings

import keras
import numpy as np
import pytest
from keras import layers

import tfprune
from tests.fit.methods import METHODS, X, Y, compiled, fit
from tests.models import assert_same, outputs
from tfprune.callbacks import MovementPruning
from tfprune.gates import gates_of

GATED = {
    "hard concrete": lambda: METHODS["hard concrete"](initial=0.4, check_every=1),
    "movement": lambda: METHODS["movement"](check_every=1),
    "blocks": lambda: MovementPruning(
        "hybrid", target=tfprune.Sparsity(0.5), block=(2, 2), check_every=1, start=0, verbose=0
    ),
    "dynamic": lambda: METHODS["dynamic"](),
}
pytestmark = [pytest.mark.sampled, pytest.mark.parametrize("method", GATED)]


class AtTheEndOfEpochs(keras.callbacks.Callback):
    """Calls a function with the model."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def on_epoch_end(self, epoch, logs=None):
        self.function(self.model)


def by_function(model, path):
    keras.saving.save_model(model, path)
    return keras.saving.load_model(path)


def by_copying(model, path):
    return copy.deepcopy(model)


def over_the_same_layers(model, path):
    keras.Model(model.inputs, model.outputs).save(path)
    return keras.saving.load_model(path)


@pytest.mark.parametrize("save", [by_function, by_copying, over_the_same_layers])
def test_a_file_computes_what_the_model_does(method, save, tmp_path):
    model = compiled()
    own, seen = len(model.weights), []

    def look(trained):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Such as of an optimizer left out.
            again = save(trained, tmp_path / "model.keras")
        assert len(again.weights) == own and not gates_of(again)
        if save is by_function:
            assert len(again.optimizer.variables) == 2 + 2 * own
        seen.append([trained.predict(X, verbose=0)])
        assert_same(seen[-1], outputs(again, X))

    fit(model, GATED[method](), AtTheEndOfEpochs(look), epochs=4)
    assert len(seen) == 4
    assert_same([model.predict(X, verbose=0)], outputs(model, X))


def test_an_encoder_that_predicted_in_the_fit_has_no_gates_afterwards(method):
    model = compiled()
    middle = model.get_layer("ffn_out").output
    encoder = keras.Model(model.inputs, middle)
    predict = AtTheEndOfEpochs(lambda trained: encoder.predict(X, verbose=0))
    fit(model, GATED[method](), predict, epochs=3)
    if method == "dynamic":
        with tfprune.gates.dynamic.at_size(model, 0.5):
            fit(model, epochs=1)
        tfprune.gates.detach(model)
    assert_same([encoder.predict(X, verbose=0)], outputs(encoder, X))


@keras.saving.register_keras_serializable("tests.saving")
class Subclassed(keras.Model):
    """Its layers are attributes, which Keras saves by name."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attend = layers.MultiHeadAttention(2, 4)
        self.wide, self.narrow = layers.Dense(12, "relu"), layers.Dense(3)

    def call(self, inputs):
        x = inputs + self.attend(inputs, inputs)
        return self.narrow(self.wide(x))


def test_a_subclassed_model(method, tmp_path):
    model = Subclassed()
    model.build(X.shape)
    model.compile("adam", "mse")

    def look(trained):
        assert_same([trained.predict(X, verbose=0)], outputs(by_function(trained, path), X))

    path = tmp_path / "model.keras"
    fit(model, GATED[method](), AtTheEndOfEpochs(look), epochs=3)
    model.save(path)
    assert_same([model.predict(X, verbose=0)], outputs(keras.saving.load_model(path), X))
    assert np.isfinite(model.evaluate(X, Y, verbose=0))
