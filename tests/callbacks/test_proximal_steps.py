"""Against closed forms."""

import keras
import numpy as np
import pytest
from keras import layers

from tests.models import randomize
from tfprune import penalties
from tfprune.callbacks import proximal_steps
from tfprune.structures import find_structures

FOUR = {"hidden": np.array([True, True, False, False])}


def structures():
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(4, "relu", name="hidden"), layers.Dense(2)]
    )
    return find_structures(randomize(model))


def test_factors_on_a_strength():
    # A step takes rate · λ off the root mean square.
    found = proximal_steps.factors_to_zero([0.5, 2.0], [0.1, 0.2], steps=10, strength=0.01)
    assert found == pytest.approx([0.5 / (0.1 * 10 * 0.01), 2.0 / (0.2 * 10 * 0.01)])


def test_strengths_of_groups_that_go():
    sizes = [np.array([1.0, 0.5, 0.3])] * 2
    keep = [np.array([True, False, False]), np.ones(3, bool)]
    found = proximal_steps.strengths_to_zero(sizes, keep, [2.0, 2.0], [0.1, 0.1], steps=4)
    assert found == pytest.approx([2.0 * 0.4 / (0.1 * 4), 0.0])
    (last,) = proximal_steps.strengths_to_zero(sizes[:1], keep[:1], [2.0], [0.1], steps=0.2)
    assert last == pytest.approx(2.0 * 0.4 / 0.1)  # In one step at the earliest.


def test_a_share_of_the_way():
    found = structures()
    (hidden,) = found
    before = penalties.root_mean_squares(hidden)
    proximal_steps.take_toward_zero(found, FOUR, 0.25)
    after = penalties.root_mean_squares(hidden)
    np.testing.assert_allclose(after, before * [1, 1, 0.25, 0.25], rtol=1e-5)


@pytest.mark.parametrize("only_others", [False, True])
def test_groups_that_stay_lose_half_at_most(only_others):
    found = structures()
    (hidden,) = found
    before = penalties.root_mean_squares(hidden)
    proximal_steps.shrink(found, [10.0], FOUR, only_others)
    after = penalties.root_mean_squares(hidden)
    amount = 10.0 if only_others else 0.5 * before[:2].min()
    expected = np.maximum(before - amount, 0)
    expected[:2] = before[:2] if only_others else expected[:2]
    np.testing.assert_allclose(after, expected, rtol=1e-5, atol=1e-7)


def test_all_groups_without_a_target():
    found = structures()
    (hidden,) = found
    before = penalties.root_mean_squares(hidden)
    proximal_steps.shrink(found, [0.1], {}, only_others=False)
    expected = np.maximum(before - 0.1, 0)
    np.testing.assert_allclose(penalties.root_mean_squares(hidden), expected, rtol=1e-5, atol=1e-7)
