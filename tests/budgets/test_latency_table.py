"""The arithmetic of latency tables, with a clock that the tests set."""

import json

import keras
import numpy as np
import pytest
from keras import layers

import tfprune
from tests.models import randomize, transformer
from tests.terminals import terminal
from tfprune import criteria
from tfprune.budgets.choosing import choose
from tfprune.budgets.latency_check import LatencyCheck
from tfprune.budgets.latency_table import LatencyTable
from tfprune.budgets.targets import Latency
from tfprune.measuring import timing

pytestmark = [pytest.mark.sampled, pytest.mark.tensorflow_only]


def make(units=(16, 12)):
    """A model whose layers Keras names."""
    x = keras.Input((7,))
    y = x
    for n in units:
        y = layers.Add()([y, layers.Dense(7)(layers.Dense(n, "relu")(y))])
    return randomize(keras.Model(x, y))


def true_time(model):
    """More is saved by cutting both than by the sum of cutting each."""
    hidden = [x for x in model.layers if isinstance(x, layers.Dense) and x.units != 7]
    removed = 28 - sum(layer.units for layer in hidden)
    return 10.0 - 0.2 * removed - 0.002 * removed**2


@pytest.fixture
def clock(monkeypatch):
    """Among several models each is slower than alone; what `noise` holds is added."""

    class Clock:
        noise = ()
        asked = ()
        kinds = ()

    def compare_latency(
        models,
        inputs=None,
        batch_size=1,
        sequence_length=128,
        threads=1,
        warmup=5,
        runs=30,
        verbose=1,
        quantize=None,
        representative_data=None,
    ):
        Clock.asked = (*Clock.asked, (len(models), runs, sequence_length, threads))
        Clock.kinds = (*Clock.kinds, (quantize, representative_data))
        slower = 1.4 if len(models) > 1 else 1.0
        times = np.array([true_time(m) for m in models])
        if len(models) > 2:
            times[1 : 1 + len(Clock.noise)] += Clock.noise
        made = [timing.Timing(slower * t, t, t, runs, threads, {"x": (1, 6)}) for t in times]
        return timing.LatencyComparison(made, [t / times[0] for t in times])

    monkeypatch.setattr(timing, "compare_latency", compare_latency)
    return Clock


def test_a_table_says_what_the_whole_model_takes_alone_and_what_cuts_of_all_save(clock):
    model = make()
    names = [s.name for s in tfprune.find_structures(model)]
    table = LatencyTable.measure(model, shares=(0.25, 0.5), threads=2, verbose=0)
    assert table.full == tfprune.measure_latency(model).median == 10.0
    assert table.milliseconds(dict(zip(names, (16, 12), strict=True))) == 10.0
    for a, b in ((8, 6), (4, 3), (0, 0)):
        removed = 28 - a - b
        true = 10 - 0.2 * removed - 0.002 * removed**2
        assert table.milliseconds({names[0]: a, names[1]: b}) == pytest.approx(true)
    # Ten models, three cuts of each structure and of both: 10 s for twice ten calls of 10 ms.
    assert clock.asked[1] == (10, 50, 128, 2) and table.about["threads"] == 2
    assert table.about["runs"] == 50


def test_no_noise_makes_a_smaller_model_slower(clock):
    draw = np.random.default_rng(0)
    model = make()
    names = [s.name for s in tfprune.find_structures(model)]
    for _ in range(5):
        clock.noise = draw.normal(scale=1.5, size=12)
        table = LatencyTable.measure(model, verbose=0)
        for name, groups in zip(names, (16, 12), strict=True):
            left, saved = zip(*table.points[name], strict=True)
            assert list(left) == sorted(left) and left[-1] == groups and saved[-1] == 0
            assert list(saved) == sorted(saved, reverse=True) and min(saved) >= 0
        for other in (0, 5, 12):
            times = [table.milliseconds({names[0]: a, names[1]: other}) for a in range(17)]
            assert np.all(np.diff(times) >= -1e-9)


def test_without_noise_each_point_differs(clock):
    table = LatencyTable.measure(make(), verbose=0)
    for pairs in table.points.values():
        saved = [ms for _, ms in pairs]
        assert len(pairs) == 5 and np.all(np.diff(saved) < 0)


def test_a_table_serves_another_model_of_the_same_function(clock, tmp_path):
    one, other = make(), make()
    table = LatencyTable.measure(one, verbose=0)
    table.save(tmp_path / "table.json")
    table = LatencyTable.load(tmp_path / "table.json")
    structures = tfprune.find_structures(other)
    assert not {s.name for s in structures} & set(table.points)
    target = Latency(6.0, on=table)
    keep = choose(target, other, structures, criteria.magnitude)
    small = tfprune.rebuild(other, keep=keep)
    # Between measured points the table has straight lines.
    assert true_time(small) == pytest.approx(6.0, abs=0.2)
    # The model that is pruned need not be given whole.
    part = structures.select([structures[1].name])
    cost = target.cost(other, part)
    assert cost({part[0].name: 0}) == pytest.approx(table.milliseconds({list(table.points)[1]: 0}))
    with pytest.raises(ValueError, match="holds no"):
        target.cost(make((16, 12, 5)), tfprune.find_structures(make((16, 12, 5))))
    with pytest.raises(ValueError, match="holds no .* has as many groups"):
        wide = make((20, 12))
        target.cost(wide, tfprune.find_structures(wide))


def test_what_was_asked_predicted_and_measured_stand_side_by_side(clock):
    model, twin = make(), make()
    table = LatencyTable.measure(model, verbose=0, sequence_length=9)
    target = Latency("7 ms", on=table)
    for each in (model, twin):
        structures = tfprune.find_structures(each)
        keep = {s.name: np.arange(s.groups) < s.groups // 2 for s in structures}
        small = tfprune.rebuild(each, keep=keep)
        check = target.check(small, runs=50)
        true = 10 - 0.2 * 14 - 0.002 * 14**2
        assert clock.asked[-1] == (1, 50, 9, 1)
        assert check.asked == 7.0
        assert check.predicted == pytest.approx(true)
        assert check.measured == pytest.approx(true)
        assert check.excess == pytest.approx(true / 7 - 1)
        assert "6.81 ms measured; 7 ms were asked for (3% less)" in str(check)
        assert target.check(small, before=each).before == pytest.approx(14.0)
        assert json.dumps(check.to_dict())
    # A structure that is wholly gone.
    first, second = tfprune.find_structures(twin)
    keep = {first.name: np.zeros(16, bool), second.name: np.arange(12) < 3}
    small = tfprune.rebuild(twin, keep=keep)
    names = list(table.points)
    predicted = table.milliseconds({names[0]: 0, names[1]: 3})
    assert table.check(small).predicted == pytest.approx(predicted)
    # A model that the table knows nothing of.
    unknown = keras.Sequential([keras.Input((6,)), layers.Dense(3, "relu", name="a")])
    unknown.add(layers.Dense(3, name="b"))
    assert "does not know" in str(LatencyTable(1.0, {"ffn": [(0, 0.5), (8, 0.0)]}).check(unknown))


def test_tables_of_older_versions_go_by_names(clock, tmp_path):
    model = transformer()
    path = tmp_path / "old.json"
    points = {"attention": [[0, 3.0], [2, 0.0]], "ffn_in": [[0, 4.0], [12, 0.0]]}
    path.write_text(json.dumps({"full": 10.0, "points": points, "about": {"runs": 3}}))
    table = LatencyTable.load(path)
    cost = Latency("8 ms", on=table).cost(model, tfprune.find_structures(model))
    assert cost({"attention": 1, "ffn_in": 6}) == pytest.approx(10 - 1.5 - 2)
    with pytest.raises(ValueError, match="'ffn_in' with at most 12 groups. Received: .* 16"):
        wide = transformer(units=16)
        Latency("8 ms", on=table).cost(wide, tfprune.find_structures(wide))
    other = make()
    with pytest.raises(ValueError, match="holds no"):
        Latency("8 ms", on=table).cost(other, tfprune.find_structures(other))


def test_straight_lines_between_nothing_and_all_meet_both():
    points = {"attention": [(0, 3.0), (2, 0.0)], "ffn_in": [(0, 4.0), (12, 0.0)]}
    table = LatencyTable(10.0, points, together=[(0.0, 0.0), (3.5, 4.0), (7.0, 6.0)])
    model = transformer()
    structures = tfprune.find_structures(model)
    target = Latency("8 ms", on=table)
    smooth = target.smooth(target.cost(model, structures), structures)
    assert smooth({"attention": 2, "ffn_in": 12}) == pytest.approx(10.0)
    assert smooth({"attention": 0, "ffn_in": 0}) == pytest.approx(4.0)


def test_progress_is_shown_unless_verbose_is_0(clock):
    with terminal() as screen:
        LatencyTable.measure(make(), shares=(0.0,), verbose=0)
        assert screen.getvalue() == ""
        LatencyTable.measure(make(), shares=(0.0,))
    assert "latency table: cutting 1 structures" in screen.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"full": 1}',
        '{"full": -1, "points": {}}',
        '{"full": 1, "points": 3}',
        '{"full": 1, "points": {"a": [[3, 1], [2, 0]]}}',
        '{"full": 1, "points": {"a": 3}}',
    ],
)
def test_files_that_are_no_table(tmp_path, content):
    path = tmp_path / "table.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="`path` holds no latency table"):
        LatencyTable.load(path)


@pytest.mark.parametrize(
    "options, name",
    [
        ({"shares": 0.5}, "shares"),
        ({"shares": [1.5]}, "shares"),
        ({"shares": "abc"}, "shares"),
        ({"runs": 0}, "runs"),
        ({"runs": True}, "runs"),
        ({"seconds": 0}, "seconds"),
        ({"verbose": 2}, "verbose"),
        ({"structures": tfprune.structures.Structures([])}, "structures"),
        ({"model": None}, "model"),
    ],
)
def test_bad_input(options, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        LatencyTable.measure(**{"model": make(), "verbose": 0, **options})


@pytest.mark.parametrize("path", [None, 3, ""])
def test_bad_paths(path):
    with pytest.raises(ValueError, match="`path` must be a path"):
        LatencyTable.load(path)
    with pytest.raises(ValueError, match="`path` must be a path"):
        LatencyTable(1.0, {}).save(path)


def test_a_table_of_quantized_files_is_checked_against_such_files(clock, tmp_path):
    model, examples = make(), np.ones((1, 7), "float32")
    measured = {"quantize": "int8", "representative_data": examples}
    table = LatencyTable.measure(model, verbose=0, sequence_length=9, **measured)
    assert {kind for kind, _ in clock.kinds} == {"int8"}
    assert all(given is examples for _, given in clock.kinds)
    table.save(tmp_path / "table.json")
    LatencyTable.load(tmp_path / "table.json").check(model)
    assert clock.kinds[-1][0] == "int8"
    assert clock.asked[-1][2] == 9


def test_a_check_without_a_target():
    assert str(LatencyCheck(4.0, 3.0)) == "4 ms measured; the table predicts 3 ms"


def test_a_callback_says_that_the_table_predicts(capsys):
    model = make()
    model.compile("sgd", "mse")
    points = {s.name: [(0, 2.0), (s.groups, 0.0)] for s in tfprune.find_structures(model)}
    target = Latency("8 ms", on=LatencyTable(10.0, points))
    pruning = tfprune.callbacks.ImportancePruning(target=target, criterion="magnitude", verbose=1)
    x = np.ones((8, 7), "float32")
    model.fit(x, x, epochs=2, verbose=0, callbacks=[pruning])
    printed = " ".join(capsys.readouterr().out.split())
    assert "the target is 8 ms. So the latency table predicts; `target.check(" in printed
