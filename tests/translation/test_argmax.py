"""The index of the largest number, against NumPy's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from tests.models import noise
from tfprune.translation.argmax import argmax


@pytest.mark.parametrize("length", [1, 2, 7, 12, 64, 97, 1000, 4000])
def test_it_is_that_of_numpy(length):
    values = noise(5, length)
    found = ops.convert_to_numpy(argmax(ops.convert_to_tensor(values)))
    np.testing.assert_array_equal(found, values.argmax(axis=1))
    assert found.dtype == "int32"


@given(st.lists(st.integers(-2, 2), min_size=1, max_size=30))
def test_of_equal_ones_it_is_the_first(numbers):
    values = np.array([numbers], "float32")
    assert int(argmax(ops.convert_to_tensor(values))[0]) == values.argmax()


def test_signs_of_zeros_and_infinities():
    for row in ([-0.0, 0.0, -1.0, -0.0], [-np.inf, -np.inf, -3.0, -np.inf], [-np.inf] * 4):
        values = np.array([row], "float32")
        assert int(argmax(ops.convert_to_tensor(values))[0]) == values.argmax()


def test_with_nan_an_index_is_in_range():
    values = np.full((1, 12), np.nan, "float32")
    assert 0 <= int(argmax(ops.convert_to_tensor(values))[0]) < 12
