"""Which call of a layer is running."""

import keras
import numpy as np
import pytest
from keras import layers

from tests.models import noise
from tfprune.keras_private.calls import compiling_models, trains

X = noise(4, 3)


class Looks(keras.Layer):
    """Notes what it sees when it is called; `call` has no argument named `training`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seen = []

    def call(self, inputs):
        self.seen.append((trains(), [m.name for m in compiling_models()]))
        return inputs


def model_of(looks):
    x = keras.Input((3,))
    inner = keras.Model(x, layers.Dropout(0.0)(looks(x)), name="inner")
    model = keras.Sequential([keras.Input((3,)), inner, layers.Dense(1)], name="outer")
    model.compile("sgd", "mse")
    looks.seen.clear()
    return model


@pytest.mark.parametrize("training", [True, False])
def test_what_the_outermost_call_says_holds_for_the_layers_inside(training):
    looks = Looks()
    model_of(looks)(X, training=training)
    assert [t for t, _ in looks.seen] == [training]
    assert not trains()


@pytest.mark.parametrize("method", ["fit", "predict", "evaluate"])
def test_the_models_whose_step_is_compiled_are_known(method):
    looks = Looks()
    model = model_of(looks)
    given = (X,) if method == "predict" else (X, np.zeros((4, 1)))
    getattr(model, method)(*given, verbose=0)
    # On JAX the model is built once more before its step is compiled, not in training.
    assert looks.seen[-1][0] == (method == "fit")
    assert all(names == ["outer"] for _, names in looks.seen)
    assert not list(compiling_models())


class Predicts(keras.callbacks.Callback):
    """Runs another model over the same layer in the middle of a fit."""

    def __init__(self, other, looks):
        super().__init__()
        self.other, self.looks = other, looks

    def on_epoch_end(self, epoch, logs=None):
        self.looks.seen.clear()
        self.other.predict(X, verbose=0)


def test_the_step_of_a_fit_is_not_compiled_by_its_callbacks():
    looks = Looks()
    model = model_of(looks)
    x = keras.Input((3,))
    other = keras.Model(x, looks(x), name="other")
    model.fit(X, np.zeros((4, 1)), verbose=0, callbacks=[Predicts(other, looks)])
    assert [names for _, names in looks.seen] == [["other"]]
