import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.budgets.test_choosing import SCORES, UNITS, some
from tfprune.budgets.opening_sizes import binned, opening_sizes
from tfprune.structures import Structures


def test_a_group_comes_in_when_its_rank_does():
    opens_at, width = opening_sizes(UNITS, SCORES)
    np.testing.assert_allclose(opens_at["a"], [0.5, 0.9, 0.1, 0.8, 0.2, 0.3])
    np.testing.assert_allclose(opens_at["b"], [0.7, 0.6, 0.4, 1.0])
    assert all(np.allclose(w, 0.1) for w in width.values())
    heavy = Structures([some("a", 2, 30), some("b", 4, 10)])
    opens_at, width = opening_sizes(heavy, {"a": np.array([2, 0.5]), "b": np.array([3, 4, 1, 0.0])})
    np.testing.assert_allclose(opens_at["b"], [0.2, 0.1, 0.6, 1.0])
    np.testing.assert_allclose(opens_at["a"], [0.5, 0.9])
    np.testing.assert_allclose(width["a"], 0.3)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(0.05, 1.0), min_size=1, max_size=6, unique=True),
    st.lists(st.floats(0.001, 1.0), min_size=1, max_size=40),
)
def test_binned_groups_are_in_or_out_at_every_size(sizes, weights):
    sizes = sorted(sizes, reverse=True)
    if np.min(-np.diff([*sizes, 0.0])) < 1e-3:
        return
    width = np.array(weights) / np.sum(weights)
    opens_at, moved = binned(np.cumsum(width), width, sizes)
    left = np.array([np.sum(width[opens_at <= t]) for t in sizes])
    for t in sizes:  # Open, or closed for certain.
        assert np.all((opens_at <= t) | (opens_at - moved > t + 1e-6))
    assert np.all(np.abs(left - sizes) <= width.max() / 2 + 1e-9)


def test_a_group_opens_at_the_upper_edge_of_its_bin():
    # Appendix D: what comes in above 0.5 and up to 0.75 is assigned 0.75; the middle decides here.
    opens_at = np.array([0.2, 0.25, 0.45, 0.55, 0.75, 0.85, 1.0])
    width = np.full(7, 1e-4)
    edges, delta = binned(opens_at, width, [0.75, 0.5, 0.25])
    np.testing.assert_array_equal(edges, [0.25, 0.25, 0.5, 0.75, 0.75, 1.0, 1.0])
    np.testing.assert_array_equal(delta, width)
    # One that is wider than its bin is closed at the next size all the same.
    _, delta = binned(np.array([0.75, 0.5]), np.array([0.2, 0.4]), [0.75, 0.5])
    np.testing.assert_allclose(delta, [0.75 * 0.25, 0.75 * 0.5])


def test_the_slope_of_trained_gates_follows_the_gap():
    opens_at, width = np.array([0.2, 0.45, 0.9]), np.array([1e-4, 0.1, 1e-3])
    edges, delta = binned(opens_at, width, [0.5, 0.25], trained=True)
    np.testing.assert_array_equal(edges, [0.25, 0.5, 1.0])
    np.testing.assert_allclose(delta, 0.75 * np.array([0.25, 0.25, 0.5]))


def test_a_group_that_always_stays_is_in_at_every_size():
    structure = some("a", 4, 10)
    structure.least = 1
    opens_at, width = opening_sizes(Structures([structure]), {"a": np.array([3, 4, 1, 0.0])})
    np.testing.assert_allclose(opens_at["a"], [0.5, 0.0, 0.75, 1.0])
    assert np.all(width["a"] > 0)
    moved, _ = binned(opens_at["a"], width["a"], [1.0, 0.5, 0.25])
    assert moved.tolist() == [0.5, 0.25, 1.0, 1.0]
