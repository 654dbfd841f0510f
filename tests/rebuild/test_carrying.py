"""Constants that no bias can take: one group carries those of the others."""

import keras
import numpy as np
import pytest
from keras import layers

import tfprune
from tests.models import assert_same, noise, outputs, randomize

pytestmark = pytest.mark.sampled("jax")

IMAGES = noise(3, 8, 8, 3)


def behind_padding(x):
    y = layers.Activation("sigmoid")(layers.Conv2D(8, 1, name="first")(x))
    return layers.Conv2D(4, 3, padding="same", strides=2, activation="relu")(y)


def read_twice(x):
    """Behind padding and without; the second one has a bias for what it is given."""
    y = layers.Conv2D(8, 1, activation="sigmoid", name="first")(x)
    wide = layers.Conv2D(4, 5, padding="same", dilation_rate=2, use_bias=False)(y)
    return layers.Concatenate()(
        [wide, layers.Conv2D(3, 1)(y), layers.Conv2DTranspose(2, 3, padding="same")(y)]
    )


def shifted(x):
    """Kernels alone are zero; the normalization shifts what they make."""
    y = layers.Conv2D(8, 3, padding="same", use_bias=False, name="first")(x)
    y = layers.Activation("relu6")(layers.BatchNormalization()(y))
    y = layers.Conv2D(4, 3, padding="same", use_bias=False)(y)
    return layers.Activation("relu")(layers.BatchNormalization()(y))


def without_bias(x):
    y = layers.Dense(8, "sigmoid", name="first")(layers.GlobalAveragePooling2D()(x))
    return layers.Reshape((1, 1, 4))(layers.Dense(4, use_bias=False)(y))


def to_steps(x):
    y = layers.Conv1D(8, 1, activation="sigmoid", name="first")(layers.Reshape((16, 12))(x))
    return layers.Reshape((16, 1, 5))(layers.LSTM(5, return_sequences=True)(y))


def network(make):
    x = keras.Input((8, 8, 3))
    y = layers.GlobalAveragePooling2D()(make(x))
    model = randomize(keras.Model(x, layers.Dense(2)(y)))
    for variable in model.variables:
        if variable.name == "moving_variance":
            variable.assign(0.5 + keras.ops.abs(variable))
    return model


def silence_kernel(model, channels):
    """As a mask over kernels does, which knows neither biases nor normalizations."""
    kernel = model.get_layer("first").kernel
    value = keras.ops.convert_to_numpy(kernel).copy()
    value[..., channels] = 0
    kernel.assign(value)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("make", [behind_padding, read_twice, shifted, without_bias, to_steps])
def test_all_but_one_go(make, in_place):
    model = network(make)
    silence_kernel(model, [0, 2, 3, 5, 7])
    expected = outputs(model, IMAGES)
    small = tfprune.rebuild(model, in_place=in_place)
    first = small.get_layer("first")
    assert first.kernel.shape[-1] == 8 - 4
    assert_same(expected, outputs(small, IMAGES))
    again = tfprune.rebuild(small)
    assert again.count_params() == small.count_params()
    assert_same(expected, outputs(again, IMAGES))


def test_the_largest_constant_carries_the_others():
    model = network(behind_padding)
    silence_kernel(model, [1, 4])
    bias = keras.ops.convert_to_numpy(model.get_layer("first").bias).copy()
    bias[1], bias[4] = -20.0, 1.0
    model.get_layer("first").bias.assign(bias)
    expected = outputs(model, IMAGES)
    small = tfprune.rebuild(model)
    left = keras.ops.convert_to_numpy(small.get_layer("first").bias)
    np.testing.assert_array_equal(left, np.delete(bias, 1))
    assert_same(expected, outputs(small, IMAGES))


def test_one_alone_stays():
    model = network(behind_padding)
    silence_kernel(model, [1])
    small = tfprune.rebuild(model)
    assert small.get_layer("first").filters == 8


def test_behind_a_depthwise_kernel_constants_are_none_at_the_borders():
    def depthwise(x):
        y = layers.Conv2D(8, 1, name="first")(x)
        return layers.Conv2D(4, 1)(layers.DepthwiseConv2D(3, padding="same")(y))

    model = network(depthwise)
    silence_kernel(model, [0, 1, 2])
    expected = outputs(model, IMAGES)
    small = tfprune.rebuild(model)
    assert small.get_layer("first").filters == 8
    assert_same(expected, outputs(small, IMAGES))
