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
    for t in sizes:  # Closed for certain, or open for certain.
        assert np.all((opens_at < t - 1e-6) | (opens_at - moved > t + 1e-6))
    assert np.all(np.abs(left - sizes) <= width.max() / 2 + 1e-9)
