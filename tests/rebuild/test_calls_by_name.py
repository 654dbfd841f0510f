"""Layers in a layer that are given tensors and flags by name, and are emptied."""

import keras
import numpy as np
import pytest
from keras import layers

from tests.models import assert_same, kill, noise, outputs, randomize
from tfprune.rebuild import rebuild
from tfprune.rebuild.stand_ins import ConstantOutput
from tfprune.structures import find_structures

pytestmark = pytest.mark.sampled

CALLS = {
    "all by name": lambda m, x, y, t: m(query=x, value=y, key=y),
    "in another order": lambda m, x, y, t: m(key=y, value=y, query=x),
    "the first by its place": lambda m, x, y, t: m(x, value=y),
    "with training": lambda m, x, y, t: m(x, y, key=y, training=t),
    "training set": lambda m, x, y, t: m(query=x, value=x, training=False),
    "with flags": lambda m, x, y, t: m(
        query=x,
        value=x,
        key=x,
        attention_mask=keras.ops.ones((1, 4, 4), "bool"),
        use_causal_mask=True,
        return_attention_scores=False,
    ),
    "scores": lambda m, x, y, t: m(x, y, return_attention_scores=True)[0],
    "scores by name": lambda m, x, y, t: m(query=x, value=y, return_attention_scores=True)[0],
}


@keras.saving.register_keras_serializable("test_calls_by_name")
class Cross(layers.Layer):
    """Calls attention as `how` says."""

    def __init__(self, how, **kwargs):
        super().__init__(**kwargs)
        self.how = how
        self.attention, self.norm = layers.MultiHeadAttention(2, 3), layers.LayerNormalization()

    def call(self, x, training=None):
        return x + CALLS[self.how](self.attention, x, self.norm(x[:, :2]), training)

    def get_config(self):
        return {**super().get_config(), "how": self.how}


@pytest.mark.parametrize("how", CALLS)
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_attention(how, share, tmp_path):
    x = keras.Input((4, 6))
    model = randomize(keras.Model(x, layers.Dense(2)(Cross(how)(x))))
    found = find_structures(model)
    kill(model, lambda s: np.arange(s.groups) < share * s.groups, producers_only=True)
    expected = outputs(model, noise(2, 4, 6))
    small = rebuild(model)
    assert_same(expected, outputs(small, noise(2, 4, 6)))
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    assert_same(expected, outputs(loaded, noise(2, 4, 6)))
    if "scores" in how:  # They show every head.
        assert not len(found) and "scores" in " ".join(s.reason for s in found.skipped)
    else:
        assert len(found) == 1 and small.count_params() < model.count_params()


def test_scores_of_what_has_no_heads_are_refused():
    constant = ConstantOutput([4])
    constant.build()
    x = noise(2, 3, 4)
    assert constant(query=x, value=x).shape == (2, 3, 4)
    with pytest.raises(ValueError, match="`return_attention_scores` must be false"):
        constant(query=x, value=x, return_attention_scores=True)


@keras.saving.register_keras_serializable("test_calls_by_name")
class Pair(layers.Layer):
    """A dense layer and one with a bias for each place or each unit of the output."""

    def __init__(self, axes, **kwargs):
        super().__init__(**kwargs)
        self.axes = axes
        self.first = layers.Dense(6, "tanh")
        self.second = layers.EinsumDense("abc,cd->abd", (4, 6), bias_axes=axes)

    def call(self, x):
        return x + self.second(self.first(x))

    def get_config(self):
        return {**super().get_config(), "axes": self.axes}


@pytest.mark.parametrize("axes", ["d", "bd", "b"])
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_biases_of_two_axes(axes, inside, share, tmp_path):
    x = keras.Input((4, 6))
    pair = Pair(axes)
    y = pair(x) if inside else x + pair.second(pair.first(x))
    model = randomize(keras.Model(x, layers.Dense(2)(y)))
    found = find_structures(model)
    kill(model, lambda s: np.arange(s.groups) < share * s.groups, producers_only=True)
    expected = outputs(model, noise(2, 4, 6))
    small = rebuild(model)
    assert_same(expected, outputs(small, noise(2, 4, 6)))
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    assert_same(expected, outputs(loaded, noise(2, 4, 6)))
    if axes == "b":  # What silent units emit has no place there.
        assert not len(found) and "bias" in " ".join(s.reason for s in found.skipped)
    else:
        assert small.count_params() < model.count_params()
