import keras
import numpy as np
import pytest

from tfprune.fit.strength_control import LIMIT, MOST, StrengthControl, correction

A = np.array([1.0, 1.0, 1.0, 1.0])
KEEP = np.array([False, False, True, True])


def control(families, aim=0.0):
    variable = keras.Variable(np.full((len(families), 3), np.nan, "float32"), trainable=False)
    return StrengthControl(variable, families, aim), variable


@pytest.mark.parametrize(
    "size, before, steps_left, expected",
    [
        (0.5, 0.75, 20, 0.0),  # 0.025 a step are seen and needed.
        (0.5, 0.75, 40, np.log(1 / 2)),  # Twice as fast as needed.
        (0.5, 0.75, 10, np.log(2)),  # Half as fast.
        (0.5, 0.7, 0, np.log(2.5)),  # No steps left: as if it were as many as were made.
        (0.5, 0.5001, 10, MOST),
        (0.5, 0.5, 10, MOST),
        (0.5, 0.4, 10, MOST),
        (0.0, 0.1, 10, -MOST),
    ],
)
def test_correction(size, before, steps_left, expected):
    assert correction(size, before, 10, 0.0, steps_left) == pytest.approx(expected)


def test_factors_follow_the_speed_of_the_groups_that_leave():
    steered, variable = control(["ffn", "ffn", "heads"], aim=0.1)
    assert np.isnan(steered.last_look())
    np.testing.assert_array_equal(steered.factors(), [1, 1, 1])
    steered.look(0, 100, [A, A, A], [KEEP] * 3)
    np.testing.assert_array_equal(steered.factors(), [1, 1, 1])
    # Units: a mean of 0.8, so 0.02 a step are seen and (0.8 - 0.1) / 70 = 0.01 are needed.
    # Heads: 0.99, so 0.001 are seen and 0.89 / 70 needed. What stays does not count.
    units = [np.array([0.7, 0.9, 0.9, 0.9]), np.array([0.7, 0.9, 0.6, 0.9])]
    steered.look(10, 70, [*units, np.array([0.98, 1.0, 1, 1])], [KEEP] * 3)
    expected = [(0.01 / 0.02)] * 2 + [np.exp(MOST)]
    np.testing.assert_allclose(steered.factors(), expected, rtol=1e-5)
    assert steered.last_look() == 10
    again = StrengthControl(variable, ["ffn", "ffn", "heads"], 0.1)
    np.testing.assert_array_equal(again.factors(), steered.factors())


def test_it_does_not_rise_where_what_stays_has_shrunk():
    for stays, expected in ((0.6, np.exp(MOST)), (0.4, 1.0)):
        steered, _ = control(["ffn"])
        sizes = np.array([0.5, 0.5, stays, stays])
        steered.look(0, 100, [sizes], [KEEP])
        steered.look(10, 90, [sizes], [KEEP])
        np.testing.assert_allclose(steered.factors(), [expected], rtol=1e-6)


def test_it_does_not_rise_where_what_leaves_hovers_about_zero():
    for leaves, expected in ((0.11, np.exp(MOST)), (0.09, 1.0)):
        steered, _ = control(["ffn"])
        sizes = np.array([leaves, leaves, 1.0, 1.0])
        steered.look(0, 100, [sizes], [KEEP])
        steered.look(10, 90, [sizes], [KEEP])
        np.testing.assert_allclose(steered.factors(), [expected], rtol=1e-6)


def test_it_falls_where_nothing_leaves():
    steered, _ = control(["ffn"])
    steered.look(0, 100, [A], [A > 0])
    steered.look(10, 90, [A], [A > 0])
    np.testing.assert_allclose(steered.factors(), [np.exp(-MOST)], rtol=1e-6)


def test_it_stays_finite_where_nothing_moves():
    steered, _ = control(["ffn"])
    for look in range(200):
        steered.look(10 * look, 100, [A], [KEEP])
    np.testing.assert_allclose(steered.factors(), [np.exp(LIMIT)], rtol=1e-5)
