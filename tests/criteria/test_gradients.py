import keras
import numpy as np
import pytest

from tests.models import noise
from tfprune.criteria.gradients import absolute_gradients


def linear():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def test_they_are_those_of_the_equation():
    model, x, y = linear(), noise(12, 3), noise(12, 1, seed=1)
    kernel, bias = model.get_weights()
    expected = [0.0, 0.0]
    for i in range(0, 12, 4):
        error = x[i : i + 4] @ kernel + bias - y[i : i + 4]
        expected[0] += np.abs(2 * x[i : i + 4].T @ error / 4) / 3
        expected[1] += np.abs(2 * error.mean(axis=0)) / 3
    before = model.get_weights()
    found = absolute_gradients(model, (x, y), model.trainable_variables, batch_size=4)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    (first,) = absolute_gradients(model, (x, y), [model.trainable_variables[1]], 4, steps=1)
    error = x[:4] @ kernel + bias - y[:4]
    np.testing.assert_allclose(first, np.abs(2 * error.mean(axis=0)), rtol=1e-5)


def test_data_without_targets_is_refused():
    with pytest.raises(ValueError, match="`data`"):
        absolute_gradients(linear(), noise(4, 3), [])
