import keras
import numpy as np
import pytest

import tfprune
from tests.models import assert_same, compile_and_build, noise, outputs, randomize, transformer
from tfprune import criteria
from tfprune.budgets.choosing import choose
from tfprune.callbacks import ImportancePruning
from tfprune.schedules import Epoch

pytestmark = pytest.mark.sampled

X, Y = noise(32, 3, 8), noise(32, 3, 3, seed=2)


def compiled(**options):
    model = randomize(transformer(units=24), 0)
    return compile_and_build(model, keras.optimizers.Adam(1e-2), "mse", **options)


def fit(model, *callbacks, epochs=3, **options):
    return model.fit(
        X, Y, batch_size=8, epochs=epochs, verbose=0, callbacks=list(callbacks), **options
    )


def test_the_lowest_go_at_once_and_stay_gone():
    model = compiled()
    structures = tfprune.find_structures(model)
    scores = criteria.gradient_importance(model, (X, Y))
    expected = choose(tfprune.Sparsity(0.5), None, structures, scores, within="kind")
    pruning = ImportancePruning(target=tfprune.Sparsity(0.5), data=(X, Y), verbose=0)
    history = fit(model, pruning).history
    for s in structures:
        np.testing.assert_array_equal(s.norms() > 0, expected[s.name])
    assert history["groups/ffn"] == [expected["ffn_in"].sum()] * 3
    assert history["loss"][-1] < history["loss"][0]
    small = tfprune.rebuild(model)
    assert_same(outputs(model, X), outputs(small, X))
    weights = sum(s.weights for s in structures)
    assert (model.count_params() - small.count_params()) / weights == pytest.approx(0.5, abs=0.03)
    assert pruning.reached == pytest.approx(0.5, abs=0.03)


def test_says_once_that_groups_are_scored(capsys):
    rounds = {"rounds": 2, "stop": 8, "check_every": 1}
    fit(compiled(), ImportancePruning(target=tfprune.Sparsity(0.5), data=(X, Y), **rounds))
    shown = capsys.readouterr().out
    assert shown.count("scoring") == 1
    assert "ImportancePruning: scoring 26 groups by gradient_importance" in shown


@pytest.mark.parametrize("criterion", ["gradient_importance", "reconstruction"])
def test_by_error_in_rounds(criterion):
    """What goes in an earlier round does not come back, so that several may overshoot."""
    data, found = (X, Y), []
    for rounds in ({}, {"rounds": 3, "stop": 8}):
        model = compiled()
        model.optimizer.learning_rate = 0.0
        pruning = ImportancePruning(
            target=tfprune.Sparsity(0.6),
            data=data,
            criterion=criterion,
            within="error",
            check_every=1,
            verbose=0,
            **rounds,
        )
        assert pruning.within == "error"
        history = fit(model, pruning).history
        assert (0.2 if rounds else 0.35) <= pruning.reached <= 0.4
        assert np.all(np.diff(history["groups/ffn"]) <= 0)
        found.append({s.name: s.norms() > 0 for s in tfprune.find_structures(model)})
    structures = tfprune.find_structures(compiled())
    if criterion == "gradient_importance":
        scores = criteria.gradient_importance(compiled(), data)
    else:
        scores = criteria.reconstruction(compiled(), X)
    keep = choose(tfprune.Sparsity(0.6), None, structures, scores, within="error")
    for name, stays in keep.items():
        np.testing.assert_array_equal(found[0][name], stays)


def test_flops_of_channels_are_taken_where_they_cost_most():
    """In the first layer a channel costs as many as sixteen of the last one."""

    def channels_left(target, within):
        keras.utils.set_random_seed(0)
        x, y = noise(64, 16, 16, 3), noise(64, 2)
        model = keras.Sequential([keras.Input((16, 16, 3))])
        for width, strides in ((8, 1), (8, 2), (32, 2)):
            model.add(keras.layers.Conv2D(width, 3, strides, padding="same", activation="relu"))
        model.add(keras.layers.GlobalAveragePooling2D())
        model.add(keras.layers.Dense(2))
        model.compile("sgd", "mse")
        callback = ImportancePruning(target=target, data=(x, y), verbose=0)
        model.fit(x, y, verbose=0, callbacks=[callback])
        assert callback.within == within
        return [s.groups for s in tfprune.find_structures(tfprune.rebuild(model))]

    by_flops = channels_left(tfprune.Flops(0.6), "error")
    by_weights = channels_left(tfprune.Sparsity(0.4), "kind")
    assert sum(by_flops[:-1]) < sum(by_weights[:-1])
    assert by_flops[-1] > by_weights[-1]


def test_what_is_compared_by_default():
    def within(target, **options):
        return ImportancePruning(target=target, data=(X, Y), **options).within

    table = tfprune.LatencyTable(10.0, {"ffn_in": [(0, 4.0), (24, 0.0)]})
    latency = tfprune.Latency(8.0, on=table)
    assert within(tfprune.Sparsity(0.5)) == within(lambda step: 0.5) == "kind"
    assert within(latency) == within(latency, criterion="wanda") == "error"
    assert within(latency, criterion="magnitude") == within(latency, within="layer") == "layer"
    assert within(latency, per_cost=True) == "kind"
    half = tfprune.Sparsity(0.5)
    fitted = {"criterion": "reconstruction", "repair": (X, Y)}
    assert within(half, **fitted) == within(latency, **fitted) == "error"
    assert within(half, per_cost=True, **fitted) == "layer"
    assert within(half, criterion="reconstruction") == "layer"
    assert within(half, criterion="activation") == "layer"
    assert within(half, criterion=criteria.magnitude) == "layer"


def test_rounds_follow_a_cubic_and_score_anew():
    model = compiled()
    seen = []

    def criterion(structure):
        if structure.kind == "ffn":
            seen.append(int(np.count_nonzero(structure.norms())))
        return criteria.magnitude(structure)

    pruning = ImportancePruning(
        ["ffn"],
        target=tfprune.Sparsity(0.75),
        criterion=criterion,
        rounds=3,
        start=Epoch(1),
        stop=Epoch(3),
        check_every=1,
        verbose=0,
    )
    history = fit(model, pruning, epochs=4).history
    # After 1, 2 and 3 rounds 1-(2/3)^3, 1-(1/3)^3 and all of the 18 units that go; the first
    # falls on the end of the first epoch, which is where the second begins.
    assert seen == [24, 24 - 13, 24 - 17]
    assert history["groups/ffn"] == [11, 7, 6, 6]


def test_schedules_of_tfmot_are_taken():
    tfmot = pytest.importorskip("tensorflow_model_optimization")
    model = compiled()
    pruning = ImportancePruning(
        ["ffn"],
        target=tfmot.sparsity.keras.PolynomialDecay(0.0, 0.5, 0, 8, power=1, frequency=2),
        criterion="magnitude",
        check_every=1,
        verbose=0,
    )
    history = fit(model, pruning).history
    # Half of the way after 4 of 8 steps, and all of it from then on.
    assert history["groups/ffn"] == [18, 12, 12]


def test_a_target_in_parameters_is_met():
    model = compiled()
    pruning = ImportancePruning(
        target=tfprune.Parameters(0.6), criterion="magnitude", verbose=0, round_to={"ffn": 2}
    )
    fit(model, pruning, epochs=1)
    small = tfprune.rebuild(model)
    share = small.count_params() / model.count_params()
    assert share == pytest.approx(0.6, abs=0.01)
    assert pruning.reached == pytest.approx(share, abs=0.01)  # An emptied layer's bias goes too.
    assert sum(s.groups for s in tfprune.find_structures(small) if s.kind == "ffn") % 2 == 0


@pytest.mark.parametrize(
    "options, name",
    [
        ({"target": None}, "target"),
        ({"target": 0.5}, "target"),
        ({"criterion": "size"}, "criterion"),
        ({"data": None}, "data"),
        ({"rounds": 0}, "rounds"),
        ({"rounds": 2}, "stop"),
        ({"within": "block"}, "within"),
        ({"within": "error", "per_cost": True}, "per_cost"),
    ],
)
def test_bad_arguments(options, name):
    given = {"target": tfprune.Sparsity(0.5), "data": (X, Y), **options}
    with pytest.raises(ValueError, match=f"`{name}`"):
        ImportancePruning(**given)


def test_an_unreachable_target_is_refused_before_training():
    model = compiled()
    before = outputs(model, X)
    with pytest.raises(ValueError, match="`target` cannot be reached"):
        fit(model, ImportancePruning(target=tfprune.Parameters(0.01), criterion="magnitude"))
    assert_same(before, outputs(model, X), 0)
    fit(model, ImportancePruning(target=tfprune.Parameters(0.7), criterion="magnitude", verbose=0))


@pytest.mark.parametrize("rounds", [1, 3])
def test_each_round_is_repaired(rounds):
    def pruned(repair):
        model = compiled()
        keras.utils.set_random_seed(0)
        model.optimizer.learning_rate = 0.0
        pruning = ImportancePruning(
            target=tfprune.Sparsity(0.5),
            data=(X, Y),
            rounds=rounds,
            stop=0.9,
            repair=repair,
            check_every=1,
            verbose=0,
        )
        fit(model, pruning)
        wanted = outputs(compiled(), X)[0]
        assert pruning.reached == pytest.approx(0.5, abs=0.06)  # A head is 20 %.
        assert_same(outputs(model, X), outputs(tfprune.rebuild(model), X))
        return np.mean((outputs(model, X)[0] - wanted) ** 2)

    assert pruned(X) < 0.8 * pruned(None)


def test_what_cannot_repair_is_refused():
    with pytest.raises(ValueError, match="`data` must"):
        fit(compiled(), ImportancePruning(target=tfprune.Sparsity(0.5), data=(X, Y), repair="x"))
