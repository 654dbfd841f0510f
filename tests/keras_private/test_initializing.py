"""What tfprune assumes about how Keras makes weights."""

import keras
import numpy as np
import pytest
from keras import layers

from tests.models import randomize, transformer
from tfprune.keras_private.initializing import complete, nothing_for_random_values
from tfprune.keras_private.variables import resize
from tfprune.rebuild import rebuild

pytestmark = pytest.mark.sampled


def values(layer):
    return [keras.ops.convert_to_numpy(v) for v in layer.variables]


def test_what_would_be_drawn_has_no_value_and_all_else_is_as_it_was():
    with nothing_for_random_values():
        dense = layers.Dense(3, bias_initializer=keras.initializers.Constant(2.0))
        dense.build((None, 4))
        dropout = layers.Dropout(0.5, seed=7)
        norm = layers.LayerNormalization()
        norm.build((None, 4))
    assert dense.kernel._value is None
    assert not np.any(values(dense)[0]) and np.all(values(dense)[1] == 2)
    assert np.all(values(norm)[0] == 1)
    (state,) = values(dropout)
    np.testing.assert_array_equal(state, values(layers.Dropout(0.5, seed=7))[0])
    after = layers.Dense(3)
    after.build((None, 4))
    assert np.all(values(after)[0] != 0)


def test_what_is_assigned_meanwhile_is_the_value():
    x, kernel = np.ones((2, 4), "float32"), np.full((4, 3), 2.0, "float32")
    with nothing_for_random_values():
        dense = layers.Dense(3)
        dense.build((None, 4))
        with pytest.raises(ValueError, match="shape"):
            dense.kernel.assign(kernel.T)
        dense.kernel.assign(kernel)
        dense.kernel.assign_add(kernel)
    assert np.array_equal(dense(x), np.full((2, 3), 16.0))
    dense.kernel.assign(kernel)
    assert np.array_equal(dense(x), np.full((2, 3), 8.0))


def test_what_is_made_while_a_layer_is_called_on_symbols_has_no_value_either():
    class Outer(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = layers.Dense(3)

        def call(self, x):
            return self.inner(x)

    with nothing_for_random_values():
        outer, x = Outer(), keras.Input((4,))
        outer(x)
        assert outer.inner.kernel._value is None
        outer(x)
        outer.inner.kernel.assign(np.ones((4, 3)))
    assert np.array_equal(outer(np.ones((2, 4), "float32")), np.full((2, 3), 4.0))


def test_what_was_left_without_a_value_gets_zeros():
    with nothing_for_random_values():
        dense, other = layers.Dense(3), layers.Dense(3)
        dense.build((None, 4))
        other.build((None, 4))
        # It may get another shape before.
        resize(other.kernel, (4, 2))
        assert other.kernel._value is None
        other.kernel.assign(np.ones((4, 2)))
    complete(dense.variables)
    dense.kernel.assign(dense.kernel + 1)
    assert np.array_equal(values(dense)[0], np.ones((4, 3)))
    assert np.array_equal(values(other)[0], np.ones((4, 2)))


def test_it_ends_after_an_error_too():
    with pytest.raises(KeyError), nothing_for_random_values():
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
