"""Several structures with groups along one axis of a variable."""

import keras
import numpy as np
import pytest

from tests.models import randomize
from tfprune.structures import Slices, Structure, Structures
from tfprune.structures.cut_variables import by_variable, overlap

pytestmark = pytest.mark.sampled("jax")


def owned(length, **of):
    owner = np.full(length, -1)
    for group, places in of.items():
        owner[places] = int(group[1:])
    return owner


@pytest.fixture
def layer():
    """A kernel `(6, 4)`: rows 0, 3 and 1, 4 belong to two groups, rows 2, 5 to one of another."""
    layer = keras.layers.Dense(4)
    layer.build((None, 6))
    return randomize(layer)


def structures(layer):
    pairs = owned(6, g0=[0, 3], g1=[4, 1])
    rest = owned(6, g0=[2, 5])
    first = Structure("a", 2, (Slices(layer, "kernel", 0, "consumer", owner=pairs),))
    columns = Slices(layer, "kernel", 1, "producer")
    second = Structure("b", 1, (Slices(layer, "kernel", 0, "consumer", owner=rest),))
    third = Structure("c", 2, (columns, Slices(layer, "bias", 0, "statistic")))
    return first, second, third


def test_what_belongs_to_a_group(layer):
    kernel = np.asarray(layer.kernel)
    first, second, _ = structures(layer)
    assert first.positions([1], first.slices[0]).tolist() == [1, 4]
    assert (first.weights, first.group_size, second.weights) == (16, 8, 8)
    by_hand = [np.sqrt((kernel[rows] ** 2).sum()) for rows in ([0, 3], [1, 4])]
    np.testing.assert_allclose(first.norms(), by_hand, rtol=1e-6)
    assert "(2, 4)" in str(first)


def test_scaling_leaves_what_others_have(layer):
    kernel = np.array(layer.kernel)
    first, _, _ = structures(layer)
    first.scale(np.array([0, 2], "float32"))
    factor = np.array([0, 2, 1, 0, 2, 1])[:, None]
    np.testing.assert_array_equal(layer.kernel, kernel * factor)


def test_statistics_are_silenced_and_not_scaled(layer):
    bias = np.array(layer.bias)
    _, _, third = structures(layer)
    assert third.weights == 24
    third.scale(np.array([0, 2], "float32"))
    np.testing.assert_array_equal(layer.bias, np.where([0, 0, 1, 1], bias, 0))


def test_weights_left_are_counted_once(layer):
    found = Structures(structures(layer))
    assert found.weights == 24 + 4
    left = found.weights_left
    # Two of the six rows go with a group of `a`, and two of the four columns with one of `c`.
    assert left({"a": 1, "b": 1, "c": 1}) == 4 * 2 + 2
    assert left({"a": 2, "b": 0, "c": 2}) == 4 * 4 + 4


def test_overlaps(layer):
    first, second, third = structures(layer)
    rows, columns = first.slices[0], third.slices[0]
    assert not overlap(rows, second.slices[0]) and not overlap(rows, columns)
    assert overlap(rows, rows) and overlap(rows, Slices(layer, "kernel", 0, "consumer"))
    again = Structure("d", 1, (Slices(layer, "kernel", 0, "consumer", owner=owned(6, g0=[2])),))
    with pytest.raises(ValueError, match=r"'b' and 'd', which both divide axis 0 of kernel"):
        by_variable([first, second, again])
