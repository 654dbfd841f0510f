"""What tfprune assumes about how Keras makes weights."""

import keras
import numpy as np
import pytest
from keras import layers

from tests.models import randomize, transformer
from tfprune.keras_private.initializing import zeros_for_random_values
from tfprune.rebuild import rebuild

pytestmark = pytest.mark.one_backend


def values(layer):
    return [keras.ops.convert_to_numpy(v) for v in layer.variables]


def test_what_would_be_drawn_is_zero_and_all_else_as_it_was():
    with zeros_for_random_values():
        dense = layers.Dense(3, bias_initializer=keras.initializers.Constant(2.0))
        dense.build((None, 4))
        dropout = layers.Dropout(0.5, seed=7)
        norm = layers.LayerNormalization()
        norm.build((None, 4))
    assert not np.any(values(dense)[0]) and np.all(values(dense)[1] == 2)
    assert np.all(values(norm)[0] == 1)
    (state,) = values(dropout)
    np.testing.assert_array_equal(state, values(layers.Dropout(0.5, seed=7))[0])
    after = layers.Dense(3)
    after.build((None, 4))
    assert np.all(values(after)[0] != 0)


def test_it_ends_after_an_error_too():
    with pytest.raises(KeyError), zeros_for_random_values():
        raise KeyError
    after = layers.Dense(3)
    after.build((None, 4))
    assert np.all(values(after)[0] != 0)


def test_rebuilding_draws_nothing(monkeypatch):
    model = randomize(transformer())
    drawn = []
    plain = keras.initializers.GlorotUniform.__call__

    def draw(self, *args, **kwargs):
        drawn.append(1)
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(keras.initializers.GlorotUniform, "__call__", draw)
    small = rebuild(model, keep={"ffn_in": np.arange(12) < 6})
    assert not drawn
    assert all(np.any(v) for v in values(small))
