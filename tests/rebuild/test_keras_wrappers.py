"""Wrappers of Keras around what is cut, whose `from_config` takes a configuration apart."""

import copy

import keras
import numpy as np
import pytest
from keras import layers

from tests.models import assert_same, kill, noise, outputs, randomize
from tfprune.copying import own_config
from tfprune.rebuild import rebuild
from tfprune.structures import find_structures

pytestmark = pytest.mark.sampled


def feed_forward():
    return keras.Sequential([keras.Input((8,)), layers.Dense(16, "softplus"), layers.Dense(4)])


@keras.saving.register_keras_serializable("test_keras_wrappers")
class Block(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.up, self.down = layers.Dense(16, "softplus"), layers.Dense(8)

    def build(self, shape):
        self.up.build(shape)
        self.down.build((*shape[:-1], 16))

    def call(self, x):
        return self.down(self.up(x))

    def compute_output_shape(self, shape):
        return (*shape[:-1], 8)


@keras.saving.register_keras_serializable("test_keras_wrappers")
class Wrapped(layers.Wrapper):
    def __init__(self, layer, **kwargs):
        super().__init__(layer, **kwargs)
        self.after = Block()

    def build(self, shape):
        super().build(shape)
        self.after.build(self.layer.compute_output_shape(shape))

    def call(self, x):
        return self.after(self.layer(x))

    def compute_output_shape(self, shape):
        return (*shape[:-1], 8)


def recurrent():
    x = keras.Input((3, 8))
    h = layers.Bidirectional(layers.LSTM(4))(x)
    return keras.Model(x, layers.Dense(4)(layers.Dense(16, "softplus")(h)))


CASES = {
    "a model": (lambda: layers.TimeDistributed(feed_forward()), (3, 8)),
    "a layer": (lambda: layers.TimeDistributed(Block()), (3, 8)),
    "twice": (lambda: layers.TimeDistributed(layers.TimeDistributed(feed_forward())), (2, 3, 8)),
    "of the user": (lambda: Wrapped(Block()), (8,)),
    "inside another": (lambda: layers.TimeDistributed(Wrapped(Block())), (3, 8)),
    "around another": (lambda: layers.TimeDistributed(recurrent()), (2, 3, 8)),
}


@pytest.mark.sampled
@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_they_save_and_load(case, in_place, share, tmp_path):
    make, shape = CASES[case]
    x = keras.Input(shape)
    model = randomize(keras.Model(x, make()(x)))
    parameters = model.count_params()
    assert find_structures(model)
    kill(model, lambda s: np.arange(s.groups) < share * s.groups)
    given = noise(2, *shape)
    want = outputs(model, given)
    small = rebuild(model, in_place=in_place)
    assert small.count_params() < parameters
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    assert_same(want, outputs(small, given))
    assert_same(want, outputs(loaded, given))
    # What was loaded is cut and saved as often as one likes.
    kill(loaded, lambda s: np.arange(s.groups) == s.groups - 1)
    want = outputs(loaded, given)
    again = rebuild(loaded, in_place=in_place)
    again.save(tmp_path / "again.keras")
    assert_same(want, outputs(keras.saving.load_model(tmp_path / "again.keras"), given))


@pytest.mark.sampled
def test_a_model_in_a_wrapper_beside_what_is_cut_saves_and_loads(tmp_path):
    """A Functional model keeps its graph by the `id`s of its layers, which a copy has not."""
    x = keras.Input((3, 8))
    a = keras.Input((8,))
    inner = layers.TimeDistributed(keras.Model(a, layers.Dense(8)(a)))
    model = keras.Model(x, layers.Dense(2)(layers.Dense(16, "softplus", name="up")(inner(x))))
    small = rebuild(randomize(model), keep={"up": np.arange(16) < 5})
    small.save(tmp_path / "small.keras")
    given = noise(2, 3, 8)
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    assert_same(outputs(small, given), outputs(loaded, given))


def test_a_configuration_stays_whole():
    function = abs
    config = {"layer": {"config": {"units": [1, (2, {})], "activation": function}}}
    before = copy.deepcopy(config)
    own = own_config(config)
    assert own == before and own["layer"]["config"]["activation"] is function
    own["layer"]["config"].pop("units")[0] = 3
    assert config == before
