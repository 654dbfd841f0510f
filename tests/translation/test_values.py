"""Values of a graph, as rows and as they are."""

import numpy as np
from keras import ops

from tests.models import noise
from tfprune.translation.values import Values


def test_rows_are_all_positions_one_below_the_other():
    values, tensor = Values(2, -1), object()
    whole = noise(2, 3, 4)
    values.set_whole(tensor, ops.convert_to_tensor(whole))
    rows = values.rows(tensor)
    np.testing.assert_array_equal(ops.convert_to_numpy(rows), whole.reshape(6, 4))
    values.set_rows(tensor, 2 * rows)
    np.testing.assert_array_equal(ops.convert_to_numpy(values.whole(tensor)), 2 * whole)


def test_in_a_step_there_is_one_position():
    values, tensor = Values(-1, 1), object()
    values.set_rows(tensor, ops.ones((5, 4)))
    assert tuple(values.whole(tensor).shape) == (5, 1, 4)


def test_what_is_no_tensor_is_given_back():
    values = Values(2, -1)
    assert values.whole(None) is None and values.rows(3) == 3


def test_a_copy_does_not_see_what_comes_later():
    values, tensor, later = Values(2, -1), object(), object()
    values.set_whole(tensor, ops.ones((2, 3)))
    other = values.copy()
    values.set_whole(later, ops.ones((2, 3)))
    assert other.whole(later) is later and other.whole(tensor) is values.whole(tensor)


def test_something_is_made_once():
    values, made = Values(2, -1), []
    for _ in range(2):
        assert values.once("key", lambda: made.append(1) or len(made)) == 1
