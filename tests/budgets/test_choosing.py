from types import SimpleNamespace

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tfprune
from tests.convolutional import network
from tests.models import transformer
from tfprune import criteria
from tfprune.budgets.choosing import choose
from tfprune.budgets.targets import Sparsity
from tfprune.structures import Slices, Structure, Structures

pytestmark = pytest.mark.sampled


def some(name, groups, group_size, kind="ffn"):
    """A structure of so many groups of so many weights, in one kernel."""
    layer = SimpleNamespace(kernel=np.zeros((groups, group_size)), name=name)
    structure = Structure(name, groups, (Slices(layer, "kernel", 0, "producer"),))
    structure.kind = kind
    return structure


UNITS = Structures([some("a", 6, 10), some("b", 4, 10)])
SCORES = {"a": np.array([5, 1, 9, 2, 8, 7.0]), "b": np.array([3, 4, 6, 0.0])}


def removed(keep):
    return {name: np.flatnonzero(~mask).tolist() for name, mask in keep.items()}


def test_the_lowest_scores_go_wherever_they_are():
    assert removed(choose(Sparsity(0.5), None, UNITS, SCORES)) == {"a": [1, 3], "b": [0, 1, 3]}
    assert removed(choose(Sparsity(0.0), None, UNITS, SCORES)) == {"a": [], "b": []}
    everything = removed(choose(Sparsity(1.0), None, UNITS, SCORES))
    assert everything == {"a": list(range(6)), "b": list(range(4))}


def test_each_layer_loses_the_same_share():
    keep = choose(Sparsity(0.5), None, UNITS, SCORES, within="layer")
    assert removed(keep) == {"a": [0, 1, 3], "b": [0, 3]}


def test_each_kind_loses_the_same_share():
    mixed = Structures([some("a", 6, 10), some("b", 4, 10), some("c", 4, 10, "heads")])
    scores = {**SCORES, "c": np.array([100, 103, 102, 101.0])}
    keep = choose(Sparsity(0.5), None, mixed, scores, within="kind")
    assert removed(keep) == {"a": [1, 3], "b": [0, 1, 3], "c": [0, 3]}


def test_scores_per_cost_spare_what_is_small():
    two = Structures([some("small", 2, 1), some("large", 2, 100)])
    scores = {"small": np.array([1.0, 2.0]), "large": np.array([3.0, 4.0])}
    assert removed(choose(Sparsity(0.495), None, two, scores, per_cost=True)) == {
        "small": [],
        "large": [0],
    }


def test_a_large_group_that_overshoots_is_passed_over():
    two = Structures([some("heads", 2, 100, "heads"), some("units", 50, 2)])
    scores = {"heads": np.array([0.0, 5.0]), "units": np.arange(50) + 1.0}
    keep = choose(Sparsity(0.1), None, two, scores)
    assert keep["heads"].all() and (~keep["units"]).sum() == 15


def test_multiples_are_left():
    keep = choose(Sparsity(0.4), None, UNITS, SCORES, round_to={"ffn": 4})
    assert keep["a"].sum() % 4 == 0 and keep["b"].sum() % 4 == 0
    with pytest.raises(ValueError, match="`round_to` names kinds"):
        choose(Sparsity(0.4), None, UNITS, SCORES, round_to={"heads": 4})


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 30)), min_size=1, max_size=5),
    share=st.floats(0, 1),
    within=st.sampled_from(["model", "kind", "layer"]),
    seed=st.integers(0, 99),
)
def test_targets_are_met_as_closely_as_groups_allow(sizes, share, within, seed):
    structures = Structures(
        [some(str(i), n, size, "even" if i % 2 else "odd") for i, (n, size) in enumerate(sizes)]
    )
    keep = choose(Sparsity(share), None, structures, criteria.random(seed), within=within)
    total = sum(s.groups * s.group_size for s in structures)
    gone = sum(int((~keep[s.name]).sum()) * s.group_size for s in structures)
    assert gone / total >= share - 1e-6  # Met, and as closely as the largest group allows.
    assert abs(gone / total - share) <= max(s.group_size for s in structures) / total + 1e-6
    for s in structures:  # Within a structure nothing outlives what scored higher.
        scores = criteria.random(seed)(s)
        if keep[s.name].any() and not keep[s.name].all():
            assert scores[~keep[s.name]].max() < scores[keep[s.name]].min() or len(sizes) > 1


def test_of_few_large_groups_the_nearest_that_meet_the_target_go():
    few = Structures([some("a", 2, 30), some("b", 2, 25), some("c", 1, 40)])
    scores = {"a": np.array([1.0, 3.0]), "b": np.array([2.0, 5.0]), "c": np.array([4.0])}
    # In the order of their scores 30, 25 and 30 of 150 go, 10 more than the 75 that must; another
    # 25 instead of the last 30 are 5 more.
    keep = choose(Sparsity(0.5), None, few, scores)
    gone = {name: int((~mask).sum()) for name, mask in keep.items()}
    assert 30 * gone["a"] + 25 * gone["b"] + 40 * gone["c"] == 80
    halfway = choose(Sparsity(0.5), None, few, scores, progress=0.7)  # 52.5: nearest on either side
    assert removed(halfway) == {"a": [0], "b": [0], "c": []}


def test_choosing_among_many_groups_is_fast():
    many = Structures([some(str(i), 300, 7 + i, "heads" if i % 2 else "ffn") for i in range(100)])
    calls = []

    class Counted(Sparsity):
        def cost(self, model, structures):
            cost = super().cost(model, structures)
            return lambda counts: calls.append(0) or cost(counts)

    keep = choose(Counted(0.61803), None, many, criteria.random(0))
    gone = sum(int((~keep[s.name]).sum()) * s.group_size for s in many) / many.weights
    assert 0.61803 <= gone <= 0.61803 + 0.005
    assert len(calls) < 100  # A search by halves, not a walk along 30,000 groups.


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda: choose(Sparsity(0.5), None, UNITS, SCORES, within="block"), "within"),
        (lambda: choose(Sparsity(0.5), None, UNITS, {"a": SCORES["a"]}), "scores"),
        (lambda: choose(Sparsity(0.5), None, UNITS, {**SCORES, "b": np.ones(3)}), "scores"),
        (lambda: choose(Sparsity(0.5), None, UNITS, {**SCORES, "b": np.full(4, np.nan)}), "scores"),
        (lambda: choose(Sparsity(0.5), None, UNITS, SCORES, round_to={"ffn": 0}), "round_to"),
    ],
)
def test_bad_input(make, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        make()


def test_scores_may_be_tensors():
    scores = {name: keras.ops.convert_to_tensor(value) for name, value in SCORES.items()}
    assert removed(choose(Sparsity(0.5), None, UNITS, scores))["a"] == [1, 3]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"round_to": 8}, "`round_to` must map kinds"),
        ({"round_to": {"ffn": 0}}, "`round_to` must hold positive integers"),
        ({"round_to": {"ffn": True}}, "`round_to` must hold positive integers"),
        ({"round_to": {"ffn": "x"}}, "`round_to` must hold positive integers"),
        ({"round_to": {3: 8}}, "`round_to` names kinds"),
        ({"scores": 3}, "`scores` must be a criterion"),
        ({"scores": None}, "`scores` must be a criterion"),
        ({"scores": lambda s: np.full(s.groups, np.nan)}, "`scores` must give .* with NaN"),
        ({"target": 0.5}, "`target` must be a target"),
        ({"within": "head"}, "`within` must be one of"),
        ({"structures": tfprune.structures.Structures([])}, "`structures` must hold at least one"),
    ],
)
def test_wrong_calls(options, message):
    model = transformer()
    arguments = {
        "target": tfprune.Sparsity(0.5),
        "model": model,
        "structures": tfprune.find_structures(model),
        "scores": criteria.magnitude,
    }
    with pytest.raises(ValueError, match=message):
        choose(**{**arguments, **options})
    keep = choose(**arguments, round_to={"ffn": np.int64(4)})
    assert keep["ffn_in"].sum() % 4 == 0


@pytest.mark.parametrize("within", ["model", "kind", "layer", "error"])
@pytest.mark.parametrize(("share", "round_to"), [(0.6, {}), (0.25, {"channels": 4})])
def test_what_a_network_cannot_do_without_stays(within, share, round_to):
    structures = tfprune.find_structures(network("plain"))
    scores = {s.name: np.arange(s.groups, dtype=float) for s in structures}
    scores["b"] = scores["b"] * 1e-9  # All of it would go first.
    chosen = choose(tfprune.Sparsity(share), None, structures, scores, within, round_to=round_to)
    assert all(1 <= mask.sum() < len(mask) for mask in chosen.values())
    with pytest.raises(ValueError, match="as little left of 2 structures as can be"):
        choose(tfprune.Sparsity(1.0), None, structures, scores, within, round_to=round_to)


def test_equal_shares_are_shares_of_all_groups():
    structures = tfprune.find_structures(network("plain"))
    scores = {s.name: np.arange(s.groups, dtype=float) for s in structures}
    chosen = choose(tfprune.Sparsity(0.5), None, structures, scores, "layer")
    assert {n: int(mask.sum()) for n, mask in chosen.items()} == {"a": 3, "b": 2}
