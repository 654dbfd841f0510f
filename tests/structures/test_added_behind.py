"""Constants go into the moving mean behind a layer without bias."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfprune
from tests.models import assert_same, noise, outputs, randomize

pytestmark = pytest.mark.sampled("jax")

IMAGES = noise(16, 6, 6, 3)


def positive(model):
    for variable in model.variables:
        if variable.name == "moving_variance":
            variable.assign(0.5 + ops.abs(variable))
    return model


def network(behind, size=1, padding="valid", **options):
    """A convolution whose channel 1 is a constant, and one that reads it, with something behind."""
    x = keras.Input((6, 6, 3))
    first = layers.Conv2D(4, 1, activation="sigmoid", name="a")
    second = layers.Conv2D(5, size, padding=padding, use_bias=False, name="b", **options)
    y = behind(second, first(x))
    model = positive(randomize(keras.Model(x, y)))
    first.kernel.assign(first.kernel * [1.0, 0.0, 1.0, 1.0])
    return model


def norm(**options):
    return layers.BatchNormalization(name="norm", **options)


def alone(second, x):
    return norm()(second(x))


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("size", [1, 3])
def test_the_moving_mean_takes_it(size, in_place):
    model = network(alone, size)
    bias = float(model.get_layer("a").bias[1])
    constant = np.asarray(ops.sigmoid(bias) * ops.sum(model.get_layer("b").kernel[:, :, 1], (0, 1)))
    moved = np.asarray(model.get_layer("norm").moving_mean) - constant
    expected = outputs(model, IMAGES)
    small = tfprune.rebuild(model, in_place=in_place)
    assert small.get_layer("a").filters == 3
    np.testing.assert_allclose(small.get_layer("norm").moving_mean, moved, rtol=1e-5, atol=1e-6)
    assert_same(expected, outputs(small, IMAGES))


def test_units_of_dense_layers():
    x = keras.Input((3,))
    y = layers.Dense(4, "sigmoid", name="a")(x)
    y = layers.BatchNormalization()(layers.Dense(5, use_bias=False, name="b")(y))
    model = positive(randomize(keras.Model(x, layers.Dense(2)(ops.relu(y)))))
    model.get_layer("a").kernel.assign(model.get_layer("a").kernel * [1.0, 0.0, 1.0, 1.0])
    small = tfprune.rebuild(model)
    assert small.get_layer("a").units == 3
    assert_same(outputs(model, noise(4, 3)), outputs(small, noise(4, 3)))


def twice(second, x):
    between = norm()
    return between(second(x)) + between(x[..., :1] * np.ones(5, "float32"))


@pytest.mark.parametrize(
    "behind",
    [
        lambda second, x: norm()(ops.relu(second(x))),
        lambda second, x: [norm()(y := second(x)), y],
        lambda second, x: norm()(y := second(x)) * y,
        lambda second, x: norm(axis=1)(second(x)),
        lambda second, x: layers.LayerNormalization()(second(x)),
        twice,
    ],
)
def test_what_else_is_there_takes_nothing(behind):
    model = network(behind)
    before = outputs(model, IMAGES)
    with pytest.warns(match="no group"):
        small = tfprune.rebuild(model)
    assert small.get_layer("a").filters == 4
    assert_same(before, outputs(small, IMAGES))


def test_an_activation_comes_first():
    model = network(alone, activation="relu")
    with pytest.warns(match="no group"):
        assert tfprune.rebuild(model).get_layer("a").filters == 4


def test_a_fit_has_an_intercept():
    """As good as with a bias in the layer: the same numbers come out."""

    def repaired(use_bias):
        x = keras.Input((6, 6, 3))
        y = layers.Conv2D(8, 1, activation="relu", name="a")(x)
        second = layers.Conv2D(5, 3, use_bias=use_bias, name="b")
        y = layers.BatchNormalization(name="norm")(second(y))
        model = positive(randomize(keras.Model(x, layers.GlobalAveragePooling2D()(y))))
        if use_bias:
            second.bias.assign(ops.zeros(5))
        draw = np.random.default_rng(0)
        for name in ("a", "b", "norm"):
            for variable in model.get_layer(name).variables:
                if variable is not second.bias:
                    value = draw.uniform(0.1, 1.0, variable.shape) * 2 - (variable.ndim > 1)
                    variable.assign(value)
        keep = {"a": np.arange(8) < 4}
        return outputs(model, IMAGES)[0], outputs(
            tfprune.rebuild(model, keep=keep, repair=IMAGES), IMAGES
        )[0]

    before, small = repaired(use_bias=False)
    same, with_bias = repaired(use_bias=True)
    assert_same([before], [same])
    assert_same([with_bias], [small])
    # Without what was removed, the mean of the outputs stays.
    np.testing.assert_allclose(small.mean(axis=0), before.mean(axis=0), rtol=0.02, atol=0.02)
