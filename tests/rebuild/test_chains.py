"""Chains of dense layers, whose kernels in the middle have two structures."""

import keras
import numpy as np
import pytest
from keras import layers

from tests.models import assert_same, kill, noise, outputs, randomize
from tfprune.rebuild import rebuild
from tfprune.structures import find_structures

pytestmark = pytest.mark.sampled


def dense(units, activation, name):
    return layers.Dense(units, activation, use_bias=False, name=name)


def einsum(units, activation, name):
    return layers.EinsumDense(
        "abc,cd->abd", (None, units), activation=activation, bias_axes=None, name=name
    )


@pytest.mark.parametrize("make", [dense, einsum])
@pytest.mark.parametrize("length", [3, 4])
@pytest.mark.parametrize("emptied", [0, 1])
def test_chain_without_biases(make, length, emptied):
    # The layer behind the emptied one emits softplus(0); the next one reads only two units of it.
    inputs = x = keras.Input((3, 4))
    for number in range(length):
        x = make(6, "softplus" if number == emptied + 1 else "relu", f"layer_{number}")(x)
    model = randomize(keras.Model(inputs, make(3, None, "out")(x)))
    unread = np.arange(6) >= 2
    kill(model, {f"layer_{emptied}": np.ones(6, bool)})
    reader = model.get_layer("out" if emptied + 2 == length else f"layer_{emptied + 2}")
    reader.kernel.assign(np.array(reader.kernel) * ~unread[:, None])
    x = noise(2, 3, 4)
    small = rebuild(model)
    assert_same(outputs(model, x), outputs(small, x))
    assert small.count_params() < model.count_params()
    assert_same(outputs(model, x), outputs(rebuild(small), x))


@pytest.mark.parametrize("merge", [layers.Multiply, layers.Add, layers.Maximum])
def test_gated_chain_without_biases(merge):
    inputs = keras.Input((4,))
    first = dense(5, "relu", "first")(inputs)
    gated = merge()([dense(6, "sigmoid", "gate")(first), dense(6, "softplus", "other")(first)])
    model = randomize(keras.Model(inputs, dense(3, None, "out")(gated)))
    kill(model, {"first": np.ones(5, bool)})
    kernel = model.get_layer("out").kernel
    kernel.assign(np.array(kernel) * (np.arange(6) < 2)[:, None])
    x = noise(2, 4)
    small = rebuild(model)
    assert_same(outputs(model, x), outputs(small, x))
    assert sum(s.groups for s in find_structures(small)) <= 2


def test_shared_layer_without_bias():
    # `middle` is called in two places, behind the same emptied layer.
    one, two = keras.Input((4,)), keras.Input((4,))
    layers_of_both = [
        dense(5, "relu", "first"),
        dense(6, "softplus", "middle"),
        dense(3, None, "last"),
    ]
    ends = []
    for x in (one, two):
        for layer in layers_of_both:
            x = layer(x)
        ends.append(x)
    model = randomize(keras.Model([one, two], ends))
    kill(model, {"first": np.ones(5, bool)})
    kernel = layers_of_both[-1].kernel
    kernel.assign(np.array(kernel) * (np.arange(6) < 2)[:, None])
    x = [noise(2, 4), noise(2, 4, seed=2)]
    assert_same(outputs(model, x), outputs(rebuild(model), x))


def test_chain_inside_a_layer():
    class Chain(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.first = dense(5, "relu", "first")
            self.middle = dense(6, "softplus", "middle")
            self.last = dense(3, None, "last")

        def call(self, x):
            return self.last(self.middle(self.first(x)))

        def get_config(self):
            return {"name": self.name}

        @classmethod
        def from_config(cls, config):
            return cls(**config)

    model = Chain(name="chain")
    x = noise(2, 4)
    model(x)
    randomize(model)
    kill(model, {"first": np.ones(5, bool)})
    model.last.kernel.assign(np.array(model.last.kernel) * (np.arange(6) < 2)[:, None])
    assert_same(outputs(model, x), outputs(rebuild(model), x))


def test_units_that_only_units_read_which_go_too_go_at_once():
    x = keras.Input((4,))
    y = layers.Dense(6, "relu", name="a")(x)
    y = layers.Dense(5, "relu", name="b")(y)
    model = randomize(keras.Model(x, layers.Dense(3, name="c")(y)))
    kill(model, {"b": np.arange(5) < 4})
    kernel = model.get_layer("b").kernel
    kernel.assign(np.array(kernel) * (np.arange(6) < 2)[:, None])  # The last of b reads two of a.
    model.get_layer("a").bias.assign(np.arange(6.0))
    small = rebuild(model)
    assert {s.name: s.groups for s in find_structures(small)} == {"a": 2, "b": 1}
    assert_same(outputs(model, noise(2, 4)), outputs(small, noise(2, 4)))


def test_constants_go_through_dense_layers_and_additions():
    x = keras.Input((3, 4))
    one = layers.MultiHeadAttention(1, 2, name="one")(x, x)
    two = layers.MultiHeadAttention(1, 2, name="two")(one, one)
    y = layers.Dense(5, "sigmoid", name="dense")(layers.Add()([one, two]))
    model = randomize(keras.Model(x, y))
    kill(model, lambda s: np.ones(s.groups, bool), producers_only=True)
    small = rebuild(model)
    assert_same(outputs(model, noise(2, 3, 4)), outputs(small, noise(2, 3, 4)))
    # One unit that says where the positions are, and the constant as a bias.
    assert [tuple(v.shape) for v in small.weights] == [(1, 5), (5,)]


def test_a_dense_layer_that_is_called_elsewhere_is_no_constant():
    x = keras.Input((3, 4))
    shared = layers.Dense(4, "tanh", name="shared")
    one = shared(layers.MultiHeadAttention(1, 2, name="one")(x, x))
    model = randomize(keras.Model(x, [one, shared(x)]))
    kill(model, {"one": np.ones(1, bool)})
    assert_same(outputs(model, noise(2, 3, 4)), outputs(rebuild(model), noise(2, 3, 4)))
