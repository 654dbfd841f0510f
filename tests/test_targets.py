import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tfprune
from tests.models import randomize, transformer
from tfprune import criteria
from tfprune.latency_table import LatencyTable
from tfprune.targets import Flops, Latency, Parameters, Sparsity, choose


class Some:
    """Structures as far as `choose` looks at them."""

    def __init__(self, name, groups, group_size, kind="ffn"):
        self.name, self.groups, self.group_size, self.kind = name, groups, group_size, kind


class Structures(list):
    @property
    def kinds(self):
        return tuple(dict.fromkeys(s.kind for s in self))


UNITS = Structures([Some("a", 6, 10), Some("b", 4, 10)])
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
    mixed = Structures([Some("a", 6, 10), Some("b", 4, 10), Some("c", 4, 10, "heads")])
    scores = {**SCORES, "c": np.array([100, 103, 102, 101.0])}
    keep = choose(Sparsity(0.5), None, mixed, scores, within="kind")
    assert removed(keep) == {"a": [1, 3], "b": [0, 1, 3], "c": [0, 3]}


def test_scores_per_cost_spare_what_is_small():
    two = Structures([Some("small", 2, 1), Some("large", 2, 100)])
    scores = {"small": np.array([1.0, 2.0]), "large": np.array([3.0, 4.0])}
    assert removed(choose(Sparsity(0.495), None, two, scores, per_cost=True)) == {
        "small": [],
        "large": [0],
    }


def test_a_large_group_that_overshoots_is_passed_over():
    two = Structures([Some("heads", 2, 100, "heads"), Some("units", 50, 2)])
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
        [Some(str(i), n, size, "even" if i % 2 else "odd") for i, (n, size) in enumerate(sizes)]
    )
    keep = choose(Sparsity(share), None, structures, criteria.random(seed), within=within)
    total = sum(s.groups * s.group_size for s in structures)
    gone = sum(int((~keep[s.name]).sum()) * s.group_size for s in structures)
    assert abs(gone / total - share) <= max(s.group_size for s in structures) / total + 1e-6
    for s in structures:  # Within a structure nothing outlives what scored higher.
        scores = criteria.random(seed)(s)
        if keep[s.name].any() and not keep[s.name].all():
            assert scores[~keep[s.name]].max() < scores[keep[s.name]].min() or len(sizes) > 1


def test_parameters_and_flops_are_those_of_the_rebuilt_model():
    model = randomize(transformer(width=16, units=64))
    structures = tfprune.find_structures(model)
    for target, count in (
        (Parameters("70%"), tfprune.count_parameters),
        (Flops(0.7, sequence_length=32), lambda m: tfprune.count_flops(m, sequence_length=32)),
    ):
        keep = choose(target, model, structures, criteria.magnitude)
        small = tfprune.rebuild(model, keep=keep)
        assert count(small) / count(model) == pytest.approx(0.7, abs=0.01)


def test_unreachable_targets_say_what_can_be_reached():
    model = randomize(transformer())
    structures = tfprune.find_structures(model)
    with pytest.raises(ValueError, match=r"`target` cannot be reached: 10.0% of the parameters"):
        choose(Parameters(0.1), model, structures, criteria.magnitude)
    table = LatencyTable(10.0, {s.name: [(0, 2.0), (s.groups, 0.0)] for s in structures})
    with pytest.raises(ValueError, match=r"3 ms was asked for, .* from 10 ms to 6 ms"):
        choose(Latency("3 ms", on=table), model, structures, criteria.magnitude)


def test_latency_follows_the_table(tmp_path):
    model = randomize(transformer())
    structures = tfprune.find_structures(model)
    table = LatencyTable(
        10.0, {"attention": [(0, 3.0), (1, 2.5), (2, 0.0)], "ffn_in": [(0, 4.0), (12, 0.0)]}
    )
    assert table.milliseconds({"attention": 1, "ffn_in": 6}) == pytest.approx(10 - 2.5 - 2)
    keep = choose(Latency("8 ms", on=table), model, structures, criteria.magnitude)
    left = {name: int(mask.sum()) for name, mask in keep.items()}
    assert table.milliseconds(left) == pytest.approx(8, abs=0.35)
    table.save(tmp_path / "table.json")
    assert LatencyTable.load(tmp_path / "table.json").milliseconds(left) == table.milliseconds(left)
    with pytest.raises(ValueError, match="no latency table"):
        LatencyTable.load(tmp_path / "none.json")
    with pytest.raises(ValueError, match="holds no 'other'"):
        table.milliseconds({"other": 1})


@pytest.mark.tensorflow_only
def test_a_measured_table_covers_all_structures():
    model = randomize(transformer())
    table = LatencyTable.measure(model, shares=(0.0, 0.5), sequence_length=4, runs=3, warmup=1)
    assert table.full > 0 and table.about["runs"] == 3
    for s in tfprune.find_structures(model):
        left, saved = zip(*table.points[s.name], strict=True)
        assert left == (0, s.groups // 2, s.groups) and saved[-1] == 0
        assert list(saved) == sorted(saved, reverse=True)


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda: Sparsity(1.5), "Sparsity"),
        (lambda: Sparsity(float("nan")), "Sparsity"),
        (lambda: Parameters("half"), "Parameters"),
        (lambda: Flops("160%"), "Flops"),
        (lambda: Latency("8 s", on=LatencyTable(1.0, {})), "Latency"),
        (lambda: Latency(-1, on=LatencyTable(1.0, {})), "Latency"),
        (lambda: Latency("8 ms", on=None), "on"),
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
