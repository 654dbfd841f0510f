"""What every callback does when something goes wrong."""

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
    transformer,
)
from tfprune.callbacks import HardConcreteGates, ImportancePruning, MovementPruning
from tfprune.gates import HardConcrete, attach, gates_of
from tfprune.schedules import Epoch, Plateau

pytestmark = pytest.mark.sampled

X, Y = noise(32, 3, 8), noise(32, 3, 3, seed=2)
METHODS = {
    "hard concrete": lambda **options: HardConcreteGates(verbose=0, check_every=2, **options),
    "struct": lambda **options: MovementPruning(verbose=0, check_every=2, **options),
    "hybrid": lambda **options: MovementPruning(
        "hybrid", block=(4, 2), verbose=0, check_every=2, **options
    ),
    "importance": lambda **options: ImportancePruning(
        data=(X, Y), verbose=0, check_every=2, **options
    ),
}
each = pytest.mark.parametrize("method", METHODS)


def compiled(loss="mse"):
    model = randomize(transformer(units=24, activation="gelu"), 0)
    return compile_and_build(model, keras.optimizers.Adam(1e-3), loss)


def fit(model, *callbacks, epochs=4):
    return model.fit(X, Y, batch_size=8, epochs=epochs, verbose=0, callbacks=list(callbacks))


@each
def test_everything_may_go(method):
    model = compiled()
    model.compile(keras.optimizers.Adam(1e-3), "mse")  # Its variables are made by the first step.
    pruning = METHODS[method](target=tfprune.Sparsity(1.0))
    fit(model, pruning)
    small = tfprune.rebuild(model)
    assert not list(tfprune.find_structures(small))
    assert_same(outputs(model, X), outputs(small, X))


@each
@pytest.mark.parametrize(
    "target, tolerance",
    [
        (tfprune.Parameters("75%"), 0.02),
        (tfprune.Flops(0.75, sequence_length=16), 0.02),
        (
            tfprune.Latency(
                "8 ms",
                on=tfprune.LatencyTable(
                    10.0,
                    {"attention": [(0, 3.0), (2, 0.0)], "ffn_in": [(0, 3.0), (12, 2.0), (24, 0.0)]},
                ),
            ),
            0.2,
        ),
    ],
    ids=["parameters", "flops", "latency"],
)
def test_targets_of_every_kind_are_met(method, target, tolerance):
    model = compiled()
    pruning = METHODS[method](target=target, structures=["ffn", "heads"])
    fit(model, pruning)
    assert pruning.reached == pytest.approx(target.limit, abs=tolerance)


@each
def test_an_unknown_structure_is_named(method):
    with pytest.raises(ValueError, match="'convolutions'"):
        fit(
            compiled(),
            METHODS[method](target=tfprune.Sparsity(0.5), structures=["convolutions"]),
        )


@each
def test_a_loss_that_is_no_number_is_said(method):
    def broken(y, y_pred):
        return keras.ops.sum(y_pred) * float("nan")

    model = compiled(broken)
    with pytest.raises(ValueError, match=r"no longer finite|with NaN"):
        fit(model, METHODS[method](target=tfprune.Sparsity(0.5)))


@each
def test_an_interrupted_fit_can_be_followed_by_another(method):
    model = compiled()
    with pytest.raises(KeyboardInterrupt):
        fit(model, METHODS[method](target=tfprune.Sparsity(0.5)), Killed(1))
    pruning = METHODS[method](target=tfprune.Sparsity(0.5))
    fit(model, pruning)
    assert not gates_of(model)
    assert pruning.reached == pytest.approx(0.5, abs=0.03)
    assert_same(outputs(model, X), outputs(tfprune.rebuild(model), X))


@each
def test_a_model_with_two_losses(method):
    inputs = keras.Input((3, 8))
    hidden = keras.layers.Dense(24, "gelu", name="hidden")(inputs)
    outs = [keras.layers.Dense(3, name="a")(hidden), keras.layers.Dense(3, name="b")(hidden)]
    model = keras.Model(inputs, outs)
    compile_and_build(model, keras.optimizers.Adam(1e-3), ["mse", "mae"], loss_weights=[1.0, 0.5])
    more = {"data": (X, [Y, Y])} if method == "importance" else {}
    make = METHODS[method] if not more else lambda **o: ImportancePruning(verbose=0, **o)
    pruning = make(target=tfprune.Sparsity(0.5), **more)
    model.fit(X, [Y, Y], batch_size=8, epochs=4, verbose=0, callbacks=[pruning])
    small = tfprune.rebuild(model)
    assert_same(outputs(model, X), outputs(small, X))
    assert tfprune.find_structures(small)[0].groups == 12


@pytest.mark.parametrize("method", ["hard concrete", "struct", "hybrid"])
def test_a_stop_that_nobody_knows_is_refused_at_once(method):
    model = compiled()
    before, weights = outputs(model, X), len(model.get_weights())
    pruning = METHODS[method](target=tfprune.Sparsity(0.5), stop=Plateau("loss"))
    with pytest.raises(ValueError, match="`stop` must be a moment that is known"):
        fit(model, pruning)
    assert_same(before, outputs(model, X), 0)
    assert len(model.get_weights()) == weights


@each
def test_a_fraction_of_an_unknown_time_leaves_the_model_as_it_was(method):
    def endless():
        while True:
            yield X[:8], Y[:8]

    model = compiled()
    weights = len(model.get_weights())
    pruning = METHODS[method](target=tfprune.Sparsity(0.5), start=0.2)
    with pytest.raises(ValueError, match="`start` is given in epochs or as a fraction"):
        model.fit(endless(), epochs=1, verbose=0, callbacks=[pruning])
    assert len(model.get_weights()) == weights and not gates_of(model)


def test_gates_of_the_user_are_left_alone():
    model = compiled()
    gates = attach(model, [HardConcrete(s) for s in tfprune.find_structures(model)])
    with pytest.raises(ValueError, match="has gates over"):
        fit(model, METHODS["struct"](target=tfprune.Sparsity(0.5)))
    assert gates_of(model) == list(gates)


@each
def test_steps_are_batches_with_gradient_accumulation_too(method):
    model = compiled()
    optimizer = keras.optimizers.Adam(1e-3, gradient_accumulation_steps=2)
    compile_and_build(model, optimizer, "mse")
    stop = {} if method == "importance" else {"stop": Epoch(2)}
    pruning = METHODS[method](
        target=tfprune.Sparsity(0.5), structures=["ffn"], start=Epoch(1), **stop
    )
    history = fit(model, pruning).history["groups/ffn"]
    assert history == ([12] * 4 if method == "importance" else [24, 12, 12, 12])


@each
def test_a_fit_too_short_for_the_schedule_still_meets_the_target(method):
    model = compiled()
    pruning = METHODS[method](target=tfprune.Sparsity(0.5))
    fit(model, pruning, epochs=1)
    assert pruning.reached == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("method, rounds", [*((name, 1) for name in METHODS), ("importance", 3)])
def test_a_plateau_that_never_comes_is_said(method, rounds):
    model = compiled()
    more = {"rounds": rounds} if method == "importance" else {}
    never = Plateau("loss", min_delta=-100.0)
    pruning = METHODS[method](target=tfprune.Sparsity(0.5), start=never, stop=0.8, **more)
    with pytest.warns(UserWarning, match="'loss' did not stop improving"):
        fit(model, pruning, epochs=2)
    # Scores that were never trained choose nothing.
    expected = 1.0 if method in ("struct", "hybrid") else 0.5
    assert pruning.reached == pytest.approx(expected, abs=0.03)
    assert_same(outputs(model, X), outputs(tfprune.rebuild(model), X))


@pytest.mark.slow
@each
def test_killed_and_resumed_is_not_killed(method, tmp_path):
    def run(folder, *more):
        model = compiled()
        pruning = METHODS[method](target=tfprune.Sparsity(0.5), start=Epoch(1))
        backup = keras.callbacks.BackupAndRestore(folder)
        options = {"batch_size": 8, "epochs": 4, "verbose": 0, "shuffle": False}
        model.fit(X, Y, callbacks=[pruning, backup, *more], **options)
        return model

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", Killed(2))
    assert_same(outputs(whole, X), outputs(run(tmp_path / "killed"), X), 1e-4)


@each
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_with_jit_and_mixed_precision(method, policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = randomize(transformer(units=24, activation="gelu"), 0)
        compile_and_build(model, keras.optimizers.Adam(1e-3), "mse", jit_compile=True)
        pruning = METHODS[method](target=tfprune.Sparsity(0.5))
        fit(model, pruning, epochs=2)
        assert pruning.reached == pytest.approx(0.5, abs=0.03)
        tolerance = 1e-5 if policy == "float32" else 3e-2
        assert_same(outputs(model, X), outputs(tfprune.rebuild(model), X), tolerance)
    finally:
        keras.config.set_dtype_policy("float32")


@each
def test_a_keras_hub_classifier(method, tmp_path):
    keras_hub = pytest.importorskip("keras_hub")
    backbone = keras_hub.models.BertBackbone(30, 2, 2, 8, 24, max_sequence_length=8)
    model = keras_hub.models.BertTextClassifier(backbone, num_classes=2)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    compile_and_build(model, keras.optimizers.Adam(1e-3), loss)
    ids = np.random.default_rng(0).integers(1, 30, (32, 6))
    x = {"token_ids": ids, "padding_mask": ids > 3, "segment_ids": np.zeros_like(ids)}
    y = ids[:, 0] % 2
    if method == "importance":
        pruning = ImportancePruning(target=tfprune.Sparsity(0.5), data=(x, y), verbose=0)
    else:
        pruning = METHODS[method](target=tfprune.Sparsity(0.5))
    model.fit(x, y, batch_size=8, epochs=4, verbose=0, callbacks=[pruning])
    small = tfprune.rebuild(model)
    assert pruning.reached == pytest.approx(0.5, abs=0.06)
    assert type(small).__name__ == "BertTextClassifier"
    assert_same(outputs(model, x), outputs(small, x))
    small.save(tmp_path / "small.keras")
    assert_same(outputs(model, x), outputs(keras.saving.load_model(tmp_path / "small.keras"), x))
