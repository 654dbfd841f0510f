import numpy as np
import pytest

from tests.budgets.test_choosing import some
from tfprune.budgets.targets import Sparsity
from tfprune.budgets.two_criteria import choose_by_two
from tfprune.structures import Structures

pytestmark = pytest.mark.sampled

ALL = Structures([some("a", 8, 10), some("own", 8, 10), some("b", 8, 10)])
OTHERS = Structures([ALL["own"]])
SCORES = {"a": np.arange(8) / 100, "b": 100.0 + np.arange(8)}


def chosen(scale, within, round_to=None):
    own = {"own": scale * np.arange(8)[::-1]}
    half = Sparsity(0.5)
    cost = half.cost(None, ALL)
    return choose_by_two(half, ALL, SCORES, OTHERS, own, within, False, round_to, cost)


@pytest.mark.parametrize("within", ["layer", "model", "error"])
def test_scores_of_two_criteria_are_not_ranked_against_one_another(within):
    small, large = chosen(1e-6, within), chosen(1e6, within)
    assert list(small) == ["a", "own", "b"]
    for name, stays in small.items():
        np.testing.assert_array_equal(stays, large[name])
    np.testing.assert_array_equal(small["own"], np.arange(8) < 4)
    assert sum(stays.sum() for stays in small.values()) == 12


def test_the_rest_is_chosen_as_asked_until_the_target_is_met():
    assert [int(m.sum()) for m in chosen(1, "layer").values()] == [4, 4, 4]
    assert [int(m.sum()) for m in chosen(1, "model").values()] == [0, 4, 8]
    assert [int(m.sum()) for m in chosen(1, "error").values()] == [0, 4, 8]
    assert [int(m.sum()) for m in chosen(1, "layer", {"ffn": 4}).values()] == [4, 4, 4]
