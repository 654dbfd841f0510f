"""Methods of one object that are replaced."""

import numpy as np
from keras import layers

from tfprune.keras_private.methods import replace, replaced

X = np.ones((1, 2), "float32")


def test_a_method_is_replaced_and_set_back():
    layer, other = layers.Dense(3), layers.Dense(3)
    with replaced(layer, "call", lambda inputs: inputs):
        assert tuple(layer(X).shape) == (1, 2)
        assert tuple(other(X).shape) == (1, 3)
        with replaced(layer, "call", lambda inputs: inputs[:, :1]):
            assert tuple(layer(X).shape) == (1, 1)
        assert tuple(layer(X).shape) == (1, 2)
    assert "call" not in vars(layer)
    assert tuple(layer(X).shape) == (1, 3)
    set_back = replace(layer, "call", lambda inputs: inputs)
    set_back()
    assert tuple(layer(X).shape) == (1, 3)
