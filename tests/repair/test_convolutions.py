"""Convolutions that read channels which go are fitted to the rest."""

import keras
import numpy as np
import pytest
from keras import layers

import tfprune
from tests.convolutional import network
from tests.models import assert_same, noise, outputs, randomize

pytestmark = pytest.mark.sampled("jax")


def doubled(bias=True):
    """Each channel is there twice, so half of them can go without loss."""
    inputs = keras.Input((8, 8, 3))
    first = layers.Conv2D(8, 3, activation="relu", name="a")
    second = layers.Conv2D(5, 3, padding="same", use_bias=bias, name="b")
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(second(first(inputs))))
    randomize(model)
    kernel, shift = np.array(first.kernel), np.array(first.bias)
    kernel[..., 4:], shift[4:] = kernel[..., :4], shift[:4]
    first.kernel.assign(kernel)
    first.bias.assign(shift)
    return model


@pytest.mark.parametrize("bias", [True, False])
def test_what_is_there_twice_is_not_needed(bias):
    model, x = doubled(bias), noise(16, 8, 8, 3)
    keep = {"a": np.arange(8) < 4}
    small = tfprune.rebuild(model, keep=keep, repair=x)
    assert small.get_layer("a").filters == 4
    # The ridge holds weights near what they were.
    assert_same(outputs(model, x), outputs(small, x), tolerance=3e-3)
    kernel = np.asarray(model.get_layer("b").kernel)
    both = kernel[:, :, :4] + kernel[:, :, 4:]
    np.testing.assert_allclose(small.get_layer("b").kernel, both, atol=2e-2)


@pytest.mark.parametrize("name", ["plain", "residual", "inverted", "dense"])
def test_a_fit_is_never_worse(name):
    model, x = network(name), noise(24, 8, 8, 3)
    target = tfprune.Sparsity(0.4)

    def error(**how):
        small = tfprune.prune(model, target, x, criterion="magnitude", verbose=0, **how)
        return float(np.mean((outputs(model, x)[0] - outputs(small, x)[0]) ** 2))

    assert error() < error(repair=None)
