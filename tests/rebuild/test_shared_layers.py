"""Rebuilding models that call a layer in several places."""

import keras
import numpy as np
import pytest
from keras import layers

from tests.models import assert_same, kill, noise, outputs, randomize
from tfprune.rebuild import rebuild

pytestmark = pytest.mark.sampled


@pytest.mark.parametrize("emptied", [["first_in"], ["second_in"], ["first_in", "second_in"]])
def test_a_bias_that_a_later_call_shares_takes_no_constant(emptied):
    def pair(x, name):
        hidden = layers.Dense(5, "relu", name=f"{name}_in")(x)
        return layers.Add()([x, layers.Dense(6, name=f"{name}_out")(hidden)])

    inputs = keras.Input((6,))
    shared = layers.Dense(6, name="shared")
    x = pair(shared(inputs), "first")
    x = pair(shared(x), "second")
    model = randomize(keras.Model(inputs, x))
    kill(model, {name: np.ones(5, bool) for name in emptied})
    given = noise(4, 6)
    assert_same(outputs(model, given), outputs(rebuild(model), given))


def test_a_bias_that_a_nested_model_uses_too_takes_no_constant():
    inputs = keras.Input((6,))
    shared = layers.Dense(6, name="shared")
    nested_inputs = keras.Input((6,))
    nested = keras.Model(nested_inputs, shared(nested_inputs), name="nested")
    x = shared(inputs)
    y = layers.Dense(6, name="pair_out")(layers.Dense(5, "relu", name="pair_in")(x))
    model = randomize(keras.Model(inputs, nested(layers.Add()([x, y]))))
    kill(model, {"pair_in": np.ones(5, bool)})
    given = noise(4, 6)
    assert_same(outputs(model, given), outputs(rebuild(model), given))


@pytest.mark.parametrize("use_bias", [True, False])
def test_a_pair_that_is_called_twice_is_emptied(use_bias):
    inputs = keras.Input((6,))
    first = layers.Dense(5, "relu", name="pair_in", use_bias=use_bias)
    second = layers.Dense(6, name="pair_out", use_bias=use_bias)
    both = [second(first(x)) for x in (inputs, layers.LayerNormalization()(inputs))]
    model = randomize(keras.Model(inputs, layers.Dense(3)(layers.Concatenate()(both))))
    kill(model, {"pair_in": np.ones(5, bool)})
    small = rebuild(model)
    given = noise(4, 6)
    assert_same(outputs(model, given), outputs(small, given))
    assert not any(layer.name == "pair_in" for layer in small.layers)
