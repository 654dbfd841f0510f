import keras
import numpy as np
import pytest
from keras import layers

from tests.models import noise
from tfprune.structures.made_up import made_up_inputs
from tfprune.structures.running import Running, as_symbols

pytestmark = pytest.mark.sampled


class Inner(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(3)

    def call(self, x, scale, mask=None):
        return self.dense(x) * scale


def model():
    x = keras.Input((None,), dtype="int32", name="ids")
    y = layers.Embedding(9, 4, mask_zero=True)(x)
    return keras.Model(x, Inner(name="inner")(y, scale=2.0))


def test_arguments_are_those_of_the_first_call():
    subject = model()
    inner = subject.get_layer("inner")
    args, kwargs = Running(subject).arguments(inner)
    assert args[0].shape == (2, 4, 4) and kwargs["scale"] == 2.0
    assert "call" not in vars(inner)
    args, kwargs = as_symbols((args, kwargs))
    assert isinstance(args[0], keras.KerasTensor) and args[0].shape == (2, 4, 4)
    assert kwargs["scale"] == 2.0


def test_what_is_not_called_or_cannot_be_run_has_none():
    subject = model()
    assert Running(subject).arguments(Inner()) is None

    class Fails(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = Inner()

        def call(self, x):
            raise TypeError

    fails = Fails()
    fails.built = True
    assert Running(fails).arguments(fails.inner) is None


def test_made_up_inputs_have_the_types_and_the_sizes():
    ids = made_up_inputs(model(), 7)
    assert ids.shape == (2, 7) and ids.dtype == np.int32 and len(np.unique(ids)) > 1
    assert np.array_equal(made_up_inputs(model(), 7, varied=False), np.ones((2, 7)))
    noisy = made_up_inputs(keras.Sequential([keras.Input((None, 3)), layers.Dense(1)]), 5)
    assert noisy.shape == (2, 5, 3) and np.std(noisy) > 0.1
    assert noise(1).dtype == noisy.dtype
