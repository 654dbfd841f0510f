"""What convolutions read, and that those that read channels which go are fitted to the rest."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfprune
from tests.convolutional import network
from tests.models import assert_same, noise, outputs, randomize
from tfprune.repair.windows import reads_windows, windows

CONVOLUTIONS = {
    "valid": lambda: layers.Conv2D(5, 3),
    "same, stride": lambda: layers.Conv2D(5, (3, 2), strides=2, padding="same"),
    "dilated": lambda: layers.Conv2D(5, 3, dilation_rate=2, padding="same"),
    "pointwise": lambda: layers.Conv2D(5, 1, strides=3),
    "one dimension": lambda: layers.Conv1D(5, 3, dilation_rate=2, padding="causal"),
    "three dimensions": lambda: layers.Conv3D(5, 2, padding="same"),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_windows_times_kernel_is_the_output(name):
    layer = CONVOLUTIONS[name]()
    rank = len(layer.kernel_size)
    x = noise(2, *[7, 6, 5][:rank], 4)
    randomize(layer) if layer.built else layer(x)
    randomize(layer)
    assert reads_windows(layer)
    expected = ops.convert_to_numpy(layer(x)).reshape(-1, 5)
    kernel = ops.convert_to_numpy(layer.kernel).reshape(-1, 5)
    found = windows(layer, x) @ kernel + ops.convert_to_numpy(layer.bias)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_some_positions_are_drawn():
    layer = layers.Conv2D(2, 3)
    x = noise(3, 9, 9, 2)
    layer(x)
    every, some = windows(layer, x), windows(layer, x, most=20)
    assert every.shape == (3 * 7 * 7, 18) and some.shape == (20, 18)
    assert {tuple(row) for row in some} <= {tuple(row) for row in every}
    np.testing.assert_array_equal(some, windows(layer, x, most=20))


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
