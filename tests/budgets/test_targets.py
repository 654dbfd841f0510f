import pytest

import tfprune
from tests.models import randomize, transformer
from tfprune import criteria
from tfprune.budgets.choosing import choose
from tfprune.budgets.latency_table import LatencyTable
from tfprune.budgets.targets import Flops, Latency, Parameters, Sparsity


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
        (lambda: Flops("6.0.1%"), "Flops"),
        (lambda: Latency("8.0.1 ms", on=LatencyTable(1.0, {})), "Latency"),
        (lambda: Latency("8 s", on=LatencyTable(1.0, {})), "Latency"),
        (lambda: Latency(-1, on=LatencyTable(1.0, {})), "Latency"),
        (lambda: Latency("8 ms", on=None), "on"),
    ],
)
def test_bad_input(make, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        make()


def test_shares_in_words():
    assert Sparsity("30%").limit == Sparsity(0.3).limit == 0.7
    assert Parameters(" 40 % ").limit == Flops("40.%").limit == 0.4
