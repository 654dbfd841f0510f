import keras
import numpy as np
import pytest

import tfprune
from tests.models import (
    Killed,
    assert_same,
    compile_and_build,
    noise,
    outputs,
    randomize,
    share,
    transformer,
)
from tfprune.callbacks import DynamicSparsity, PruningCallback, TargetedPruning
from tfprune.gates import gates_of
from tfprune.gates.dynamic import at_size

pytestmark = pytest.mark.sampled

X, Y = noise(32, 3, 8), noise(32, 3, 3, seed=2)
SIZES = [1.0, 0.75, 0.5, 0.25]


def compiled(**options):
    model = randomize(transformer(heads=4, units=24, activation="gelu"))
    return compile_and_build(model, keras.optimizers.Adam(1e-3), "mse", **options)


def fit(model, *callbacks, epochs=4, **options):
    options = {"batch_size": 8, "verbose": 0, "shuffle": False, **options}
    return model.fit(X, Y, epochs=epochs, callbacks=list(callbacks), **options)


@pytest.mark.parametrize("train_gates", [False, True])
def test_every_size_comes_out_of_one_training(train_gates):
    model = compiled()
    model.compile(keras.optimizers.Adam(1e-3), "mse")  # Its variables are made by the first step.
    every = DynamicSparsity(SIZES, data=(X, Y), train_gates=train_gates, verbose=0)
    fit(model, every)
    for size in SIZES:
        small = tfprune.rebuild(model, size=size)
        assert share(small, model) == pytest.approx(size, abs=0.03)
        with at_size(model, size):
            assert_same(outputs(model, X), outputs(small, X))
    assert_same(outputs(model, X), outputs(tfprune.rebuild(model), X))


def test_a_step_trains_only_what_is_in_its_size():
    model = compiled()
    every = DynamicSparsity([0.5], data=(X, Y), start=0, verbose=0)
    kernel = model.get_layer("ffn_out").kernel
    before, trained = np.array(kernel), []

    def keep(epoch, logs):
        trained.append(np.array(kernel))

    fit(model, every, keras.callbacks.LambdaCallback(on_epoch_end=keep), epochs=1)
    (gate,) = [g for g in every.gates if g.structure.kind == "ffn"]
    open_groups = gate.open_groups()
    assert open_groups.sum() == 12
    by_unit = np.abs(trained[0] - before).max(axis=1)
    assert np.all(by_unit[open_groups] > 0) and np.all(by_unit[~open_groups] == 0)
    # No size has the others, so that they go when the fit ends.
    np.testing.assert_array_equal(np.any(kernel != 0, axis=1), open_groups)


def test_one_threshold_by_importance_for_each_weight():
    def importance(structure):
        # For each weight, a head is worth 2, and the units are worth from 3 down to 1.
        each = np.full(4, 2.0) if structure.kind == "heads" else np.linspace(3.0, 1.0, 24)
        return structure.group_size * each

    model = compiled()
    every = DynamicSparsity(
        [0.75], criterion=importance, start=0, within="model", per_cost=True, verbose=0
    )
    fit(model, every, epochs=1)
    is_open = {g.structure.kind: g.open_groups() for g in every.gates}
    assert {g.structure.group_size for g in every.gates} == {4 * 4 * 8 + 3 * 4, 2 * 8 + 1}
    # 726 of 968 weights: twelve units above 2, all heads, and no more.
    assert is_open["heads"].all() and np.flatnonzero(is_open["ffn"]).tolist() == [*range(12)]


def test_sizes_are_drawn_by_step():
    every = DynamicSparsity(SIZES, seed=3)
    drawn = [every._drawn(step) for step in range(400)]
    assert drawn == [every._drawn(step) for step in range(400)]
    assert np.all(np.abs(np.array([drawn.count(s) for s in SIZES]) - 100) < 40)
    sandwich = DynamicSparsity(SIZES, sandwich=True)
    drawn = [sandwich._drawn(step) for step in range(30)]
    assert drawn[0::3] == [1.0] * 10 and drawn[1::3] == [0.25] * 10 and len(set(drawn[2::3])) > 1


def test_it_has_no_target():
    every = DynamicSparsity(SIZES, round_to={"ffn": 8})
    assert isinstance(every, PruningCallback) and not isinstance(every, TargetedPruning)
    assert not {"target", "schedule", "reached"} & set(vars(every))
    assert every.stop is None and every.round_to == {"ffn": 8}


def test_without_data_the_ranking_is_by_magnitude():
    every = DynamicSparsity(SIZES)
    assert every.criterion.name == "magnitude"
    assert DynamicSparsity(SIZES, data=(X, Y)).criterion.name == "gradient_importance"


@pytest.mark.slow
@pytest.mark.parametrize("train_gates", [False, True])
def test_killed_and_resumed_is_not_killed(tmp_path, train_gates):
    def run(folder, *more):
        model = compiled()
        every = DynamicSparsity(SIZES, data=(X, Y), train_gates=train_gates, verbose=0)
        fit(model, every, keras.callbacks.BackupAndRestore(folder), *more)
        return model

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", Killed(2))
    resumed = run(tmp_path / "killed")
    for a, b in zip(gates_of(whole), gates_of(resumed), strict=True):
        np.testing.assert_allclose(np.array(a.opens_at), np.array(b.opens_at), rtol=1e-4)
    if train_gates:
        return  # Keras keeps no state of random draws, as in dropout: others follow after a kill.
    for size in SIZES:
        with at_size(whole, size), at_size(resumed, size):
            assert_same(outputs(whole, X), outputs(resumed, X), 1e-4)


def test_validation_sees_the_largest_size():
    model = compiled()
    every = DynamicSparsity([1.0, 0.25], data=(X, Y), start=0, verbose=0)
    history = fit(model, every, epochs=1, validation_data=(X, Y)).history
    assert history["val_loss"][0] == pytest.approx(model.evaluate(X, Y, verbose=0), rel=1e-4)


def test_a_second_fit_begins_anew_and_a_saved_file_has_no_gates(tmp_path):
    model = compiled()
    fit(model, DynamicSparsity([1.0, 0.5], data=(X, Y), verbose=0))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert not gates_of(loaded)
    assert_same(outputs(model, X), outputs(loaded, X))
    fit(model, DynamicSparsity([1.0, 0.25], data=(X, Y), verbose=0))
    assert share(tfprune.rebuild(model, size=0.25), model) == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("train_gates", [False, True])
def test_a_file_holds_the_largest_size(tmp_path, train_gates):
    model = compiled()
    every = DynamicSparsity(
        [0.5, 0.25],
        data=(X, Y),
        start=0,
        train_gates=train_gates,
        score_learning_rate=0.3,
        verbose=0,
    )
    fit(model, every)
    values = np.concatenate([np.array(gate.folded_value) for gate in every.gates])
    assert np.any(values < 1) == train_gates
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(outputs(model, X), outputs(loaded, X))
    assert 0.3 < share(tfprune.rebuild(loaded), model) < 0.7
    with at_size(model, 0.25):
        assert_same(outputs(model, X), outputs(tfprune.rebuild(model, size=0.25), X))


def test_the_end_of_a_fit_changes_no_size():
    class AtEachSize(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.outputs = []
            for size in (0.5, 0.25):
                with at_size(self.model, size):
                    self.outputs.append(self.model.predict(X, verbose=0))

    model, before = compiled(), AtEachSize()
    every = DynamicSparsity(
        [0.5, 0.25], start=0, train_gates=True, score_learning_rate=0.3, verbose=0
    )
    fit(model, every, before)
    for size, expected in zip((0.5, 0.25), before.outputs, strict=True):
        with at_size(model, size):
            assert_same([expected], [model.predict(X, verbose=0)])


def test_an_interrupted_fit_can_be_followed_by_another():
    model = compiled()
    with pytest.raises(KeyboardInterrupt):
        fit(model, DynamicSparsity(SIZES, data=(X, Y), verbose=0), Killed(1))
    fit(model, DynamicSparsity(SIZES, data=(X, Y), verbose=0))
    assert share(tfprune.rebuild(model, size=0.5), model) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_with_jit_and_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = compiled(jit_compile=True)
        fit(model, DynamicSparsity(SIZES, data=(X, Y), train_gates=True, verbose=0))
        small = tfprune.rebuild(model, size=0.5)
        with at_size(model, 0.5):
            tolerance = 1e-5 if policy == "float32" else 3e-2
            assert_same(outputs(model, X), outputs(small, X), tolerance)
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.slow
@pytest.mark.tensorflow_only
def test_the_frontier_shows_each_size(tmp_path):
    model = compiled()
    model.compile(keras.optimizers.Adam(1e-3), "mse", metrics=["mae"])
    fit(model, DynamicSparsity(SIZES, data=(X, Y), verbose=0))
    frontier = tfprune.sizes(model, (X, Y), SIZES, sequence_length=4, verbose=0)
    assert [row["size"] for row in frontier.rows] == SIZES
    for row in frontier.rows:
        small = tfprune.rebuild(model, size=row["size"])
        small.compile(loss="mse", metrics=["mae"])
        expected = small.evaluate(X, Y, verbose=0, return_dict=True)
        assert row["mae"] == pytest.approx(expected["mae"], rel=1e-4)
        assert row["parameters"] == small.count_params()
        assert row["milliseconds"] > 0
    assert frontier.rows[0]["time"] == 1.0
    assert "milliseconds" in str(frontier) and frontier.to_dict()["conditions"]["threads"] == 1
    frontier.plot(tmp_path / "sizes.png", "loss")
    assert (tmp_path / "sizes.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="`quality` must be one of loss, mae"):
        frontier.plot(quality="bleu")
    bare = tfprune.sizes(model, sizes=[0.5], latency=False, verbose=0)
    assert list(bare.rows[0]) == ["size", "parameters"]


@pytest.mark.parametrize(
    "options, name",
    [
        ({"sizes": []}, "sizes"),
        ({"sizes": [0.0, 1.0]}, "sizes"),
        ({"sizes": [1.2]}, "sizes"),
        ({"criterion": "gradient_importance"}, "data"),
        ({"criterion": "luck"}, "criterion"),
        ({"strength": -1.0}, "strength"),
        ({"score_learning_rate": 0}, "score_learning_rate"),
        ({"within": "head"}, "within"),
        ({"per_cost": 1}, "per_cost"),
        ({"round_to": {"ffn": 0}}, "round_to"),
    ],
)
def test_bad_arguments(options, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        DynamicSparsity(**options)


def test_the_table_shows_the_sizes(capsys):
    fit(compiled(), DynamicSparsity([1.0, 0.5], data=(X, Y)))
    text = capsys.readouterr().out
    assert "│ ffn_in    │ ffn   │ 24 │  12 │" in text
