"""The operations of LiteRT files, against NumPy's."""

import numpy as np
import pytest
from keras import ops

from tests.models import noise
from tfprune.translation.litert_operations import (
    id_of_largest,
    take_as_embedding,
    take_as_is,
    take_quantized,
)

pytestmark = pytest.mark.tensorflow_only

IDS = np.array([3, 0, 3, 6], "int32")


@pytest.mark.parametrize("length", [1, 7, 12, 4000])
def test_the_first_of_the_largest(length):
    values = np.round(noise(1, length))  # Many are equal.
    tensor = ops.convert_to_tensor(values)
    np.testing.assert_array_equal(id_of_largest(tensor), values.argmax(axis=1))
    ids = np.random.default_rng(0).integers(0, 50, length).astype("int32")
    np.testing.assert_array_equal(id_of_largest(tensor, ids), ids[values.argmax(axis=1)])


@pytest.mark.parametrize("ids", [IDS, IDS[None]])
def test_rows(ids):
    table = noise(7, 5)
    for take in (take_as_is, take_as_embedding):
        np.testing.assert_array_equal(take(table, ids, 0), table[ids])
    np.testing.assert_array_equal(take_as_is(table.T, ids, 1), table[ids])


@pytest.mark.parametrize("ids", [IDS, IDS[None]])
@pytest.mark.parametrize("axis", [0, 1])
def test_quantized_rows_are_as_near_as_a_scale_for_each_allows(ids, axis):
    # Rows of very different sizes, one of them empty.
    table = noise(7, 40) * 10.0 ** np.arange(-3, 4, dtype="float32")[:, None]
    table[3] = 0
    found = np.asarray(take_quantized(table.T if axis else table, ids, axis))
    step = np.abs(table).max(axis=1, keepdims=True)[ids] / 127
    assert found.shape == table[ids].shape
    assert np.all(np.abs(found - table[ids]) <= 0.5001 * step)
    assert np.any(found != table[ids])


def test_vectors_and_what_is_no_constant_stay_as_they_are():
    import tensorflow as tf

    bias, table = noise(7), noise(7, 5)
    np.testing.assert_array_equal(take_quantized(bias, IDS, 0), bias[IDS])
    computed = tf.function(lambda x: take_quantized(2 * x, IDS, 0))
    np.testing.assert_array_equal(computed(tf.constant(table)), 2 * table[IDS])
