"""The least sum of errors, against all choices that there are."""

from itertools import product

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.budgets.test_choosing import some
from tfprune import criteria
from tfprune.budgets.choosing import choose
from tfprune.budgets.latency_table import LatencyTable
from tfprune.budgets.targets import Flops, Latency, Parameters, Sparsity
from tfprune.budgets.widths import least_error, put_back
from tfprune.criteria.structure_scores import StructureScores
from tfprune.structures import Structures, find_structures

pytestmark = pytest.mark.sampled


def brute_force(errors, cost, limit):
    """The least sum of errors of all choices whose cost meets a limit."""
    choices = product(*(range(len(error)) for error in errors))
    return min(
        sum(error[n] for error, n in zip(errors, choice, strict=True))
        for choice in choices
        if cost(np.array(choice)) <= limit + 1e-9
    )


def total(errors, taken):
    return sum(error[n] for error, n in zip(errors, taken, strict=True))


@pytest.mark.parametrize(
    "most, enough, left",
    [
        (10, np.inf, [1, 1]),  # The first block of one of the others costs too much.
        (10, 7, [2, 1]),  # What costs 7 is close enough.
        (100, np.inf, [0, 1]),  # Of the second, one must go.
        (4, np.inf, [2, 2]),
    ],
)
def test_what_is_worth_most_is_put_back_first(most, enough, left):
    prices = np.array([2, 3])
    worth = [{2: 5.0, 1: 4.0}, {2: 9.0}]
    taken = put_back(
        np.array([2, 2]),
        np.array([0, 1]),
        lambda i, n: worth[i][n],
        lambda taken: 4.0 + float(prices @ (2 - taken)) + (5.0 if taken[0] == 0 else 0.0),
        most,
        enough,
    )
    assert taken.tolist() == left


def drawn(seed, structures):
    """Errors and savings of a few structures."""
    rng = np.random.default_rng(seed)
    errors = [
        np.concatenate([[0.0], np.cumsum(rng.lognormal(0, 1.5, rng.integers(1, 7)))])
        for _ in range(structures)
    ]
    saved = [np.concatenate([[0.0], rng.uniform(0, 2, len(e) - 1).cumsum()]) for e in errors]
    return errors, saved


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 9999), structures=st.integers(1, 4), share=st.floats(0, 1))
def test_of_all_widths_the_best_are_found(seed, structures, share):
    errors, saved = drawn(seed, structures)
    full = sum(each[-1] for each in saved)

    def cost(taken):
        return full - sum(each[n] for each, n in zip(saved, taken, strict=True))

    limit = full * share
    taken = least_error(errors, cost, limit, tolerance=1e-9)
    assert cost(taken) <= limit + 1e-9
    # Exact but for a bucket of each structure, by which savings may be rounded down.
    rounding = structures * full / 4096
    assert brute_force(errors, cost, limit) - 1e-9 <= total(errors, taken)
    assert total(errors, taken) <= brute_force(errors, cost, max(limit - rounding, 0)) + 1e-9


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 9999), share=st.floats(0, 1))
def test_where_structures_meet_in_kernels_the_limit_is_met(seed, share):
    """A chain: what a kernel between two structures costs is the product of what is left."""
    errors, _ = drawn(seed, 3)
    sizes = np.array([len(error) - 1 for error in errors])

    def cost(taken):
        left = np.array([5, *(sizes - taken), 3])
        return float(np.sum(left[1:] * left[:-1]))

    limit = share * cost(0 * sizes)
    taken = least_error(errors, cost, limit)
    best = brute_force(errors, cost, limit)
    assert cost(taken) <= limit
    assert best - 1e-9 <= total(errors, taken)
    # Nothing that has gone could have stayed.
    for i in np.flatnonzero(taken):
        assert cost(taken - np.eye(3, dtype=int)[i]) > limit


def test_errors_that_rise_late_in_one_structure():
    # Removing the cheapest blocks first, wherever they are, takes both blocks of 2 and, since
    # those save 1 each, the one of 5 as well: 9. The one of 5 alone saves all that is asked for.
    errors = [np.array([0.0, 2.0, 4.0]), np.array([0.0, 5.0])]

    def cost(taken):
        return 5.0 - taken[0] - 3.0 * taken[1]

    assert least_error(errors, cost, limit=2.0).tolist() == [0, 1]


def test_what_saves_nothing_stays():
    errors = [np.array([0.0, 0.0, 0.1]), np.array([0.0, 5.0, 9.0])]
    assert least_error(errors, lambda taken: 2.0 - taken[1], limit=1.0).tolist() == [0, 1]


def test_some_blocks_must_go():
    errors = [np.array([0.0, 9.0, 10.0]), np.array([0.0, 1.0, 2.0])]

    def cost(taken):
        return 4.0 - taken.sum()

    assert least_error(errors, cost, 3.0).tolist() == [0, 1]
    fewest = np.array([True, False])
    assert least_error(errors, cost, 3.0, fewest=fewest).tolist() == [1, 0]
    assert least_error(errors, cost, 2.0, fewest=fewest).tolist() in ([1, 1], [2, 0])
    assert least_error(errors, cost, 4.0, fewest=fewest).tolist() == [1, 0]


def test_the_closest_on_either_side_where_the_limit_need_not_be_met():
    errors = [np.array([0.0, 1.0, 2.0])]

    def cost(taken):
        return 10.0 - 4.0 * taken[0]

    assert least_error(errors, cost, 5.0).tolist() == [2]
    assert least_error(errors, cost, 5.0, must_meet=False).tolist() == [1]
    assert least_error(errors, cost, 3.0, must_meet=False).tolist() == [2]


def test_savings_that_show_only_together():
    """A latency table may be flat at both ends: nothing is saved by one structure alone."""
    errors = [np.array([0.0, 1.0]), np.array([0.0, 2.0]), np.array([0.0, 4.0])]

    def cost(taken):
        return float(np.interp(taken.sum(), [0, 1, 2, 3], [9, 9, 5, 5]))

    taken = least_error(errors, cost, 5.0)
    assert taken.tolist() == [1, 1, 0]


def test_a_large_model_takes_few_costs():
    rng = np.random.default_rng(0)
    groups = [12] * 12 + [3072] * 12
    size = np.array([4 * 64 * 768] * 12 + [2 * 768] * 12)
    errors = [np.concatenate([[0.0], np.sort(rng.lognormal(0, 2, n)).cumsum()]) for n in groups]
    calls = []

    def cost(taken):
        calls.append(0)
        return float(size @ (groups - taken))

    full = cost(np.zeros(24, int))
    taken = least_error(errors, cost, 0.5 * full)
    assert 0.4999 * full < cost(taken) <= 0.5 * full
    assert len(calls) < 10_000
    # No block more of one structure in the place of blocks of another has less error: all ratios
    # of error and cost lie on one side of a price, up to what a block of heads is worth.
    worst = max(np.diff(e)[n - 1] / s for e, n, s in zip(errors, taken, size, strict=True) if n)
    rest = [(e, n, s) for e, n, s in zip(errors, taken, size, strict=True) if n < len(e) - 1]
    units = min(np.diff(e)[n] / s for e, n, s in rest if s < 2000)
    assert worst < 1.1 * units


TWO = Structures([some("a", 4, 10), some("b", 4, 10)])


def gone(keep):
    return {name: np.flatnonzero(~mask).tolist() for name, mask in keep.items()}


def test_what_a_score_says_decides():
    scores = {"a": np.array([4.0, 1.0, 2.0, 3.0]), "b": np.array([2.6, 2.5, 2.7, 2.8])}
    # Alone: removing four costs 1 + 2 + 2.5 + 2.6, as in one ranking.
    alone = choose(Sparsity(0.5), None, TWO, scores, within="error")
    assert gone(alone) == {"a": [1, 2], "b": [0, 1]}
    # As errors of all that has gone, all of b cost 2.8, and all of a 4.
    together = StructureScores(scores, cumulative=True)
    keep = choose(Sparsity(0.5), None, TWO, together, within="error")
    assert gone(keep) == {"a": [], "b": [0, 1, 2, 3]}


def test_a_layer_that_cannot_go_keeps_some_groups_however_small_their_scores():
    """By hand: three of eight groups must go; sums alone would leave one of those of 0.3."""
    scores = {"a": np.full(4, 0.3), "b": np.full(4, 1.0)}
    keep = choose(Sparsity(0.375), None, TWO, scores, within="error")
    assert {name: len(each) for name, each in gone(keep).items()} == {"a": 3, "b": 0}
    stay = Structures([some("a", 4, 10), some("b", 4, 10)])
    for structure in stay:
        structure.least = 1
    keep = choose(Sparsity(0.375), None, stay, scores, within="error")
    # 0.3 · 2 / (2/4) + 1 / (3/4) = 2.5, and 0.3 · 3 / (1/4) = 3.6.
    assert {name: len(each) for name, each in gone(keep).items()} == {"a": 2, "b": 1}
    # Errors of all that has gone know what is left.
    together = StructureScores(scores, cumulative=True)
    keep = choose(Sparsity(0.375), None, stay, together, within="error")
    assert {name: len(each) for name, each in gone(keep).items()} == {"a": 3, "b": 0}


def test_one_ranking_is_worse_where_groups_are_of_different_size():
    """By hand: two heads of 30 weights and twelve units of 5; 30 of 120 weights must go."""
    both = Structures([some("heads", 2, 30, "heads"), some("units", 12, 5)])
    scores = {"heads": np.array([2.5, 9.0]), "units": np.full(12, 1.0)}
    assert gone(choose(Sparsity(0.25), None, both, scores, within="error")) == {
        "heads": [0],  # 2.5; six units would be 6.
        "units": [],
    }
    assert len(gone(choose(Sparsity(0.25), None, both, scores))["units"]) == 6


def test_a_layer_that_saves_no_time_is_left_whole():
    table = LatencyTable(10.0, {"a": [(0, 0.0), (4, 0.0)], "b": [(0, 4.0), (2, 1.0), (4, 0.0)]})
    scores = {"a": np.full(4, 0.001), "b": np.array([4.0, 3.0, 2.0, 1.0])}
    keep = choose(Latency(9.0, on=table), None, TWO, scores, within="error")
    assert gone(keep) == {"a": [], "b": [2, 3]}
    assert gone(choose(Latency(9.0, on=table), None, TWO, scores))["a"] == [0, 1, 2, 3]


def test_milliseconds_that_do_not_add_up():
    points = {"a": [(0, 4.0), (4, 0.0)], "b": [(0, 4.0), (4, 0.0)]}
    table = LatencyTable(10.0, points, together=[(0.0, 0.0), (4.0, 2.0), (8.0, 8.0)])
    scores = {"a": np.array([1.0, 2.0, 3.0, 4.0]), "b": np.array([1.5, 2.5, 3.5, 9.0])}
    for limit in (9.0, 7.0, 5.0, 2.0):
        keep = choose(Latency(limit, on=table), None, TWO, scores, within="error")
        left = {name: int(mask.sum()) for name, mask in keep.items()}
        widths = [dict(zip("ab", pair, strict=True)) for pair in product(range(5), repeat=2)]
        met = [w for w in widths if table.milliseconds(w) <= limit + 1e-9]
        lost = {n: np.concatenate([[0], np.sort(v).cumsum()])[::-1] for n, v in scores.items()}
        assert table.milliseconds(left) <= limit + 1e-9
        assert sum(lost[n][left[n]] for n in left) == pytest.approx(
            min(sum(lost[n][w[n]] for n in w) for w in met)
        )


@pytest.mark.parametrize("target", [Sparsity(0.6), Flops(0.4), Parameters(0.5)])
def test_a_chain_of_layers_whose_kernels_meet(target):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            *(keras.layers.Dense(n, "relu") for n in (12, 10)),
            keras.layers.Dense(3),
        ]
    )
    structures = find_structures(model)
    cost = target.cost(model, structures)
    rng = np.random.default_rng(0)
    scores = {s.name: rng.lognormal(size=s.groups) for s in structures}
    keep = choose(target, model, structures, scores, within="error")
    lost = [np.concatenate([[0], np.sort(scores[s.name]).cumsum()])[::-1] for s in structures]
    names = [s.name for s in structures]
    errors = {
        pair: lost[0][pair[0]] + lost[1][pair[1]]
        for pair in product(range(13), range(11))
        if cost(dict(zip(names, pair, strict=True))) <= target.limit + 1e-9
    }
    left = tuple(int(keep[name].sum()) for name in names)
    assert left in errors
    assert errors[left] <= 1.1 * min(errors.values())


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 30)), min_size=1, max_size=5),
    share=st.floats(0, 1),
    step=st.integers(1, 5),
    progress=st.floats(0, 1),
    cumulative=st.booleans(),
)
def test_targets_are_met_with_multiples_left(sizes, share, step, progress, cumulative):
    structures = Structures([some(str(i), n, size) for i, (n, size) in enumerate(sizes)])
    scores = StructureScores({s.name: criteria.random(1)(s) for s in structures}, cumulative)
    options = {"within": "error", "round_to": {"ffn": step}}
    keep = choose(Sparsity(share), None, structures, scores, **options)
    out = sum(int((~keep[s.name]).sum()) * s.group_size for s in structures)
    assert out / structures.weights >= share - 1e-6
    assert all(mask.sum() % step == 0 for mask in keep.values())
    for s in structures:
        if keep[s.name].any() and not keep[s.name].all():
            assert scores[s.name][~keep[s.name]].max() < scores[s.name][keep[s.name]].min()
    halfway = choose(Sparsity(share), None, structures, scores, progress=progress, **options)
    assert all(mask.sum() % step == 0 for mask in halfway.values())
    if step == 1:
        out = sum(int((~halfway[s.name]).sum()) * s.group_size for s in structures)
        largest = max(s.group_size for s in structures)
        assert abs(out - progress * share * structures.weights) <= largest + 1e-6


def test_infinite_scores():
    scores = {"a": np.array([np.inf, 1.0, np.inf, 2.0]), "b": np.array([5.0, 6.0, 7.0, np.inf])}
    keep = choose(Sparsity(0.625), None, TWO, scores, within="error")
    assert gone(keep) == {"a": [1, 3], "b": [0, 1, 2]}
    before = {"a": np.array([-np.inf, 1.0, -np.inf, 2.0]), "b": np.zeros(4)}
    keep = choose(Sparsity(0.125), None, TWO, before, within="error")
    assert gone(keep) == {"a": [0, 2], "b": []}  # What has gone does not come back.


def test_below_zero_is_no_error():
    scores = {"a": np.array([-5.0, 1.0, 1.0, 1.0]), "b": np.array([-1.0, 0.5, 2.0, 2.0])}
    assert gone(choose(Sparsity(0.375), None, TWO, scores, within="error")) == {
        "a": [0],
        "b": [0, 1],
    }


def test_costs_are_weighed_once():
    with pytest.raises(ValueError, match="`per_cost` must be False with within='error'"):
        choose(Sparsity(0.5), None, TWO, criteria.random(0), within="error", per_cost=True)
