"""Functions of each unit alone, whatever library they come from."""

import functools

import keras
import numpy as np
import pytest
from keras import layers

from tests.models import assert_same, kill, noise, outputs, randomize
from tfprune.rebuild import rebuild
from tfprune.structures import find_structures
from tfprune.structures.elementwise import is_elementwise, is_elementwise_function
from tfprune.structures.locality import treats_each_number_alone

pytestmark = pytest.mark.sampled

NAMES = {
    "tensorflow": "relu gelu silu swish leaky_relu elu selu softplus relu6 tanh sigmoid",
    "jax": "relu gelu silu swish leaky_relu elu selu softplus relu6 tanh sigmoid",
}
MIXING = "softmax log_softmax"


def native(name):
    """A function of the library that computes."""
    if keras.backend.backend() == "jax":
        import jax

        return getattr(jax.nn, name)
    import tensorflow as tf

    return getattr(tf.nn, name)


def alone():
    names = NAMES.get(keras.backend.backend(), "").split()
    found = {name: native(name) for name in names}
    found["partial"] = functools.partial(native("gelu"), approximate=True)
    found["lambda"] = lambda x: native("relu")(x) * 2
    found["where"] = lambda x: keras.ops.where(x > 0, x, 0.1 * x)
    return found


def mixing():
    return {
        **{name: native(name) for name in MIXING.split()},
        "centred": lambda x: x - native("relu")(keras.ops.mean(x, axis=-1, keepdims=True)),
        "faintly": lambda x: native("relu")(x) + 1e-12 * keras.ops.mean(x),
        "sorted": lambda x: keras.ops.sort(native("relu")(x)),
        "of the batch": lambda x: native("relu")(x) - keras.ops.max(x, axis=0, keepdims=True),
        "by place": lambda x: native("relu")(x) * keras.ops.arange(x.shape[-1], dtype=x.dtype),
        "of a width": lambda x: native("relu")(x) * np.arange(7, dtype="float32"),
        "narrower": lambda x: native("relu")(x[..., :1]),
        "of its own": lambda x: keras.random.uniform(x.shape) * native("relu")(x),
        "broken": lambda x: x.no_such_thing,
    }


@pytest.mark.parametrize("name", alone())
def test_functions_of_each_number(name):
    assert treats_each_number_alone(alone()[name])
    assert is_elementwise_function(alone()[name])
    assert is_elementwise(layers.Activation(alone()[name]))
    assert is_elementwise(layers.Lambda(alone()[name]))


@pytest.mark.parametrize("name", mixing())
def test_functions_that_mix_numbers(name):
    assert not treats_each_number_alone(mixing()[name])
    assert not is_elementwise(layers.Activation(mixing()[name]))
    assert not is_elementwise(layers.Lambda(mixing()[name]))


def test_a_lambda_layer_that_says_how_wide_it_is():
    # In the smaller model that would be wrong.
    assert not is_elementwise(layers.Lambda(native("relu"), output_shape=(5,)))
    assert is_elementwise(layers.Lambda(native("relu"), output_shape=lambda shape: shape))


def test_a_lambda_layer_of_two_tensors_is_no_function_of_units():
    x = keras.Input((4,))
    pair = [layers.Dense(6, name=name)(x) for name in "ab"]
    y = layers.Lambda(lambda given: given[0] * keras.ops.softmax(given[1]))(pair)
    assert not len(find_structures(keras.Model(x, layers.Dense(2)(y))))


def places(function):
    return {
        "dense": [layers.Dense(8, function, name="a")],
        "einsum": [layers.EinsumDense("...x,xy->...y", 8, function, bias_axes="y", name="a")],
        "activation": [layers.Dense(8, name="a"), layers.Activation(function)],
        "lambda": [layers.Dense(8, name="a"), layers.Lambda(function)],
    }


@pytest.mark.parametrize("place", ["dense", "einsum", "activation", "lambda"])
@pytest.mark.parametrize("name", ["gelu", "sigmoid", "softplus", "swish", "partial", "lambda"])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_rebuilt_equals_masked(name, place, share):
    # What silenced units emit, a function of their bias, goes into the bias behind them.
    inside = places(alone()[name])[place]
    model = randomize(
        keras.Sequential([keras.Input((3, 4)), *inside, layers.Dense(3, "tanh"), layers.Dense(2)])
    )
    draw = np.random.default_rng(0)
    kill(model, lambda s: draw.random(s.groups) < share, producers_only=True)
    expected = outputs(model, noise(2, 3, 4))
    small = rebuild(model)
    assert_same(expected, outputs(small, noise(2, 3, 4)))
    assert small.count_params() < model.count_params()


@pytest.mark.parametrize("name", NAMES.get(keras.backend.backend(), "relu").split())
def test_saved_where_keras_can_load(name, tmp_path):
    model = randomize(
        keras.Sequential([keras.Input((4,)), layers.Dense(8, native(name)), layers.Dense(2)])
    )
    kill(model, lambda s: np.arange(s.groups) % 2 == 0, producers_only=True)
    small = rebuild(model)
    model.save(tmp_path / "whole.keras")
    small.save(tmp_path / "small.keras")
    try:
        whole = keras.saving.load_model(tmp_path / "whole.keras")
    except (TypeError, ValueError):
        # The file of `tf.nn.swish` names a function that Keras does not know.
        with pytest.raises((TypeError, ValueError)):
            keras.saving.load_model(tmp_path / "small.keras")
        return
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    assert_same(outputs(whole, noise(2, 4)), outputs(loaded, noise(2, 4)))
