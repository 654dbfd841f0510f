import keras
import numpy as np
import pytest
from keras import ops

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
from tfprune.callbacks import MovementPruning
from tfprune.gates import BlockScores, MovementScores, gates_of
from tfprune.gates.gate import kernels_of

pytestmark = pytest.mark.sampled

X, Y = noise(32, 3, 8), noise(32, 3, 3, seed=2)


def compiled(**options):
    model = randomize(transformer(units=24, activation="gelu"), 0)
    return compile_and_build(model, keras.optimizers.Adam(1e-3), "mse", **options)


def fit(model, *callbacks, epochs=5, **options):
    return model.fit(
        X, Y, batch_size=8, epochs=epochs, verbose=0, callbacks=list(callbacks), **options
    )


class Soft(keras.callbacks.Callback):
    """Notes after each step τ, λ, what is open, and the penalty on the scores."""

    def __init__(self, pruning):
        super().__init__()
        self.pruning, self.seen = pruning, []

    def on_train_batch_end(self, batch, logs=None):
        gates = self.pruning.gates
        self.seen.append(
            {
                "threshold": float(ops.convert_to_numpy(gates[0].threshold)),
                "strengths": ops.convert_to_numpy(self.pruning.state.strengths).copy(),
                "scores": [ops.convert_to_numpy(g.scaled_scores).copy() for g in gates],
                "masks": [ops.convert_to_numpy(g.values()).copy() for g in gates],
                "penalty": float(sum(self.pruning.state.own_losses())),
                "decided": self.pruning.decided,
            }
        )


def soft(**options):
    return MovementPruning(
        **{"strength": 8.0, "score_learning_rate": 0.3, "start": 4, "stop": 12, "check_every": 1}
        | {"block": (4, 2), "verbose": 0}
        | options
    )


@pytest.mark.parametrize("method", ["struct", "hybrid", "hybrid_filled", "block"])
def test_the_target_is_met_and_nothing_is_left_of_the_scores(method):
    model = compiled()
    names = [w.path for w in model.weights]
    pruning = MovementPruning(
        method,
        target=tfprune.Sparsity(0.5),
        block=(4, 2),
        within="model" if method == "struct" else "kind",
        check_every=2,
        verbose=0,
    )
    history = fit(model, pruning).history
    assert not gates_of(model) and [w.path for w in model.weights] == names
    assert pruning.reached == pytest.approx(0.5, abs=0.03)
    small = tfprune.rebuild(model)
    assert_same(outputs(model, X), outputs(small, X))
    assert small.count_params() < 0.65 * model.count_params()
    assert history["groups/ffn"][-1] + history["groups/heads"][-1] < 26
    assert np.isfinite(history["loss"]).all()


def test_more_and_more_is_masked():
    model = compiled()
    seen = []

    class Watched(MovementPruning):
        def on_step(self, step, steps):
            super().on_step(step, steps)
            seen.append([int(g.open_groups().sum()) for g in self.gates])

    pruning = Watched(
        "struct",
        target=tfprune.Sparsity(0.5),
        structures=["ffn"],
        start=0.0,
        stop=0.8,
        check_every=4,
        verbose=0,
    )
    fit(model, pruning)
    # 4, 8 and 12 of 16 steps: 1-(3/4)^3, 1-(1/2)^3, 1-(1/4)^3 of the half that goes.
    # Half of 24 units is 6.9, 10.5 and 11.8 then; of two equally near, the sparser one is taken.
    assert seen == [[24], [24 - 7], [24 - 11], [24 - 12]]


def test_schedules_of_tfmot_are_taken():
    tfmot = pytest.importorskip("tensorflow_model_optimization")
    model = compiled()
    # It says nothing after its last step, so that one decides.
    schedule = tfmot.sparsity.keras.PolynomialDecay(0.0, 0.5, 0, 8, power=1, frequency=2)
    pruning = MovementPruning(
        target=schedule, structures=["ffn"], start=0.0, stop=0.8, check_every=1, verbose=0
    )
    history = fit(model, pruning).history
    assert history["groups/ffn"][-1] == 12


HYBRID = {"target": tfprune.Sparsity(0.5), "strength": None, "block": (2, 2), "stop": 8}


@pytest.mark.parametrize(
    "options",
    [HYBRID, HYBRID | {"strength": 8.0}, {"block": (2, 2)}, {"block": (2, 2), "stop": 8}],
    ids=["target", "both", "trained", "fixed"],
)
def test_masked_blocks_of_heads_that_stay_are_zero_to_the_end(options):
    """And a head stays if a block of each of its kernels does."""
    keras.utils.set_random_seed(0)
    model = randomize(transformer(heads=4, units=24, activation="gelu"), 0)
    compile_and_build(model, keras.optimizers.Adam(1e-3), "mse")
    cool_down = "fixed" if options.get("stop") else "trained"
    pruning = soft(method="hybrid", cool_down=cool_down, **options)
    look = Soft(pruning)
    fit(model, pruning, look, epochs=5)
    heads = tfprune.find_structures(model)["attention"]
    alive = heads.norms() > 0
    masks = look.seen[-1]["masks"]
    zeros = 0
    for share, mask in zip(kernels_of(heads), masks[:4], strict=True):
        mask = np.kron(mask, np.ones((2, 2)))
        kernel = ops.convert_to_numpy(share.variable)
        mask = np.moveaxis(mask.reshape(kernel.shape), share.axis, 0)[alive]
        kernel = np.moveaxis(kernel, share.axis, 0)[alive]
        np.testing.assert_array_equal(kernel != 0, mask != 0)
        assert mask.reshape(len(mask), -1).any(axis=1).all()
        zeros += np.count_nonzero(mask == 0)
    assert zeros and alive.any()
    if options.get("target"):
        assert np.count_nonzero(alive) == 2
    assert_same(outputs(model, X), outputs(tfprune.rebuild(model), X))


def test_what_was_masked_is_filled_and_trained_without_masks():
    pruning = soft(method="hybrid_filled", **HYBRID)
    look = Soft(pruning)
    model = compiled()
    fit(model, pruning, look, epochs=5)
    assert all(np.all(mask == 1) for mask in look.seen[8]["masks"][:4])
    assert any(np.any(mask == 0) for mask in look.seen[6]["masks"][:4])
    heads = tfprune.find_structures(model)["attention"]
    for share in kernels_of(heads):
        kernel = np.moveaxis(ops.convert_to_numpy(share.variable), share.axis, 0)
        assert np.all(kernel[heads.norms() > 0])


@pytest.mark.parametrize("method", ["struct", "hybrid", "block"])
def test_what_was_pruned_before_counts_as_masked(method):
    """Scores of what is pruned stay equal, so that a threshold among them would mask them all."""
    model = randomize(transformer(heads=4, units=24, activation="gelu"), 0)
    compile_and_build(model, keras.optimizers.Adam(1e-3), "mse")
    for structure in tfprune.find_structures(model):
        structure.scale((np.arange(structure.groups) < 0.75 * structure.groups).astype("float32"))
    masked = []

    class Watched(MovementPruning):
        def on_step(self, step, steps):
            super().on_step(step, steps)
            masks = [ops.convert_to_numpy(g.values()).ravel() for g in self.gates]
            masked.append(np.mean(np.concatenate(masks) == 0))

    pruning = Watched(
        method,
        target=tfprune.Sparsity(0.5),
        structures=["ffn"] if method == "struct" else None,  # Four heads are coarse.
        block=(2, 2),
        start=0.0,
        stop=0.9,
        check_every=1,
        verbose=0,
    )
    fit(model, pruning)
    assert len(masked) == 18 and masked[-1] > 0.45 and max(masked) <= 0.54
    assert pruning.reached == pytest.approx(0.5, abs=0.03)


def test_gradients_reach_nearly_all_scores_at_real_width():
    """A model of MiniLM's width: 12 heads of 32, 1,536 units. Masks follow the scores."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 384))
    y = keras.layers.LayerNormalization()(inputs)
    x = keras.layers.Add()(
        [inputs, keras.layers.MultiHeadAttention(12, 32, name="attention")(y, y)]
    )
    y = keras.layers.Dense(1536, "gelu", name="ffn_in")(keras.layers.LayerNormalization()(x))
    x = keras.layers.Add()([x, keras.layers.Dense(384, name="ffn_out")(y)])
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    compile_and_build(model, keras.optimizers.Adam(1e-3), "mse")
    seen = []

    class Watched(MovementPruning):
        def on_step(self, step, steps):
            super().on_step(step, steps)
            scores = [ops.convert_to_numpy(g.scaled_scores).ravel() for g in self.gates]
            masks = [ops.convert_to_numpy(g.values()).ravel() for g in self.gates]
            seen.append((np.concatenate(scores), np.concatenate(masks)))

    pruning = Watched(
        "hybrid", target=tfprune.Sparsity(0.5), start=0.0, stop=0.99, check_every=1, verbose=0
    )
    x = noise(16, 4, 384)
    model.fit(x, x[..., :2], batch_size=2, verbose=0, callbacks=[pruning])
    (_, first), *_, (before, _), (after, last) = seen
    assert len(after) == 4 * 12 * 12 + 1536
    assert np.mean(before != after) > 0.99  # Also those of what is masked by then.
    assert first.all() and np.mean(last == 0) == pytest.approx(0.5, abs=0.02)
    assert pruning.reached == pytest.approx(0.5, abs=0.01)


def test_strength_alone_masks():
    def left(strength):
        keras.utils.set_random_seed(0)
        model = compiled()
        pruning = MovementPruning(strength=strength, score_learning_rate=0.2, start=0, verbose=0)
        fit(model, pruning, epochs=10)
        return {s.name: np.count_nonzero(s.norms()) for s in tfprune.find_structures(model)}

    none, strong, by_part = left(0.0), left(100.0), left({"ffn": 100.0})
    assert none["ffn_in"] > 12 > strong["ffn_in"]
    assert by_part["ffn_in"] < 12


@pytest.mark.parametrize("method", ["struct", "hybrid"])
def test_soft_movement_follows_the_authors_schedule_and_penalty(method):
    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    pruning = soft(method=method)
    look = Soft(pruning)
    model = compiled()
    fit(model, pruning, look, epochs=5)  # 20 steps.
    assert all(np.all(mask == 1) for each in look.seen[:4] for mask in each["masks"])
    for step, each in enumerate(look.seen, start=1):
        passed = min(max((step - 4) / 8, 0), 1)
        ramp = 1 - (1 - passed) ** 3
        if ramp:
            assert sigmoid(each["threshold"]) == pytest.approx(0.1 * ramp, rel=1e-4)
        heads = 8 / 32 if method == "struct" else 8
        expected = {"heads": heads * ramp, "ffn": 8 * ramp}
        found = dict(zip(pruning.structures.kinds, each["strengths"], strict=True))
        assert found == pytest.approx(expected, rel=1e-5)
        for scores, mask in zip(each["scores"], each["masks"], strict=True):
            is_above = scores > each["threshold"]
            # In the cool-down, what is left of heads that leave is masked as well.
            assert np.all(mask <= is_above)
            if step < 12 or mask.ndim == 1:
                np.testing.assert_array_equal(mask, is_above)
        # The last matrix is that of the units; those before it are of heads. Two kinds.
        means = [np.mean(sigmoid(scores)) for scores in each["scores"]]
        penalty = (expected["heads"] * np.mean(means[:-1]) + expected["ffn"] * means[-1]) / 2
        assert each["penalty"] == pytest.approx(penalty, rel=1e-4, abs=1e-6)
    assert not look.seen[-1]["decided"]
    # Scores go on after `stop`, and with them the masks.
    assert np.any(look.seen[-1]["scores"][-1] < look.seen[12]["scores"][-1])
    left = {s.name: np.count_nonzero(s.norms()) for s in tfprune.find_structures(model)}
    assert left["ffn_in"] == np.count_nonzero(look.seen[-1]["masks"][-1]) < 24
    assert pruning.history[-1] == left  # What the logs say before anything is at zero.
    assert_same(outputs(model, X), outputs(tfprune.rebuild(model), X))


def test_a_cool_down_with_fixed_masks():
    pruning = soft(cool_down="fixed")
    look = Soft(pruning)
    fit(compiled(), pruning, look, epochs=5)
    after = look.seen[11:]
    assert all(each["decided"] and not np.any(each["strengths"]) for each in after)
    for each in after:
        np.testing.assert_array_equal(each["masks"][-1], after[0]["masks"][-1])
    assert 0 < np.count_nonzero(after[0]["masks"][-1]) < 24


def test_a_strength_brings_near_a_target_which_is_met_by_rank():
    pruning = soft(target=tfprune.Sparsity(0.5), structures=["ffn"])
    look = Soft(pruning)
    model = compiled()
    fit(model, pruning, look, epochs=5)
    before, after = look.seen[10], look.seen[11]  # `stop` is after the twelfth step.
    assert not before["decided"] and 0 < np.count_nonzero(before["masks"][0]) < 24
    np.testing.assert_array_equal(before["masks"][0], before["scores"][0] > before["threshold"])
    best = np.argsort(after["scores"][0])[-12:]
    np.testing.assert_array_equal(np.flatnonzero(after["masks"][0]), np.sort(best))
    assert not np.any(after["strengths"])
    assert np.count_nonzero(tfprune.find_structures(model)["ffn_in"].norms()) == 12


@pytest.mark.parametrize("method", ["struct", "hybrid"])
def test_scores_that_start_by_importance(method):
    seen = []

    class Watched(MovementPruning):
        def on_step(self, step, steps):
            super().on_step(step, steps)
            seen.append([ops.convert_to_numpy(g.scaled_scores) for g in self.gates])

    pruning = Watched(
        method,
        tfprune.Sparsity(0.5),
        initial_scores="gradient_importance",
        data=(X, Y),
        block=(4, 2),
        start=0,
        verbose=0,
    )
    model = compiled()

    # |∂L/∂M| of each unit, by differences: M multiplies the unit's column and row.
    structure = tfprune.find_structures(model)["ffn_in"]
    kernels = [(share, ops.convert_to_numpy(share.variable)) for share in kernels_of(structure)]
    losses = {}
    for factor in (0.95, 1.05):
        for unit in range(24):
            for share, kernel in kernels:
                factors = np.ones(kernel.shape, "float32")
                factors[(slice(None),) * share.axis + (unit,)] = factor
                share.variable.assign(kernel * factors)
            losses[factor, unit] = np.mean((outputs(model, X) - Y) ** 2)
    for share, kernel in kernels:
        share.variable.assign(kernel)
    expected = np.array([abs(losses[1.05, unit] - losses[0.95, unit]) for unit in range(24)])

    fit(model, pruning, epochs=1)
    *of_heads, of_units = seen[0]
    for scores in (of_units, np.concatenate([s.ravel() for s in of_heads])):
        np.testing.assert_allclose(np.sort(scores), np.linspace(-3, 3, scores.size), atol=1e-5)
    order = of_units.argsort().argsort()
    assert np.corrcoef(order, expected.argsort().argsort())[0, 1] > 0.98


@pytest.mark.parametrize("killed_at", [1, 3])
@pytest.mark.parametrize("initial_scores", ["zeros", "gradient_importance"])
def test_soft_movement_killed_and_resumed_is_not_killed(initial_scores, killed_at, tmp_path):
    def trained(*more):
        keras.utils.set_random_seed(0)
        model = compiled()
        backup = keras.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)
        pruning = soft(check_every=3, initial_scores=initial_scores, data=(X, Y))
        try:
            fit(model, pruning, *([backup] if more else []), *more[1:], shuffle=False)
        except KeyboardInterrupt:
            return None
        return [ops.convert_to_numpy(w) for w in model.weights]

    expected = trained()
    assert trained(True, Killed(killed_at)) is None
    for one, other in zip(expected, trained(True), strict=True):
        np.testing.assert_array_equal(one, other)


def test_soft_movement_that_begins_after_stop_masks_nothing():
    model = compiled()
    pruning = soft()
    fit(model, pruning, epochs=5, initial_epoch=4)
    assert {s.name: np.count_nonzero(s.norms()) for s in tfprune.find_structures(model)} == {
        "attention": 2,
        "ffn_in": 24,
    }


def test_strengths_by_part_of_a_decoder():
    from tfprune.translation import student

    model = student(60, 1, 1, model_dim=8, feed_forward_dim=12, num_heads=2, max_length=8)
    model.compile("adam", "mse")
    pruning = MovementPruning(
        strength={".*": 8.0, "decoder.*": 16.0},
        structures=["ffn", ".*attention.*"],
        start=0,
        stop=10,
        verbose=0,
    )
    pruning.set_model(model)
    pruning.set_params({"epochs": 1, "steps": 20})
    pruning.owner.begin()
    pruning.on_step(10, 0)
    strengths = ops.convert_to_numpy(pruning.state.strengths)
    found = dict(zip((s.name for s in pruning.structures), strengths, strict=True))
    assert found["encoder_0_ffn_in"] == found["encoder_0_attention"] == 8
    assert found["decoder_0_ffn_in"] == 16
    pruning.owner.end()


def test_a_strength_that_changes():
    """λ as a function of the step since `start`; it counts 1/32 for whole heads."""
    model, seen = compiled(), []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            strengths = ops.convert_to_numpy(pruning.state.strengths)
            seen.append(dict(zip((s.name for s in pruning.structures), strengths, strict=True)))

    pruning = MovementPruning(
        strength=lambda step: 0.1 * step, start=2, stop=6, check_every=1, verbose=0
    )
    fit(model, pruning, Look(), epochs=2)
    units = [0.0, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]  # It goes on after `stop`.
    np.testing.assert_allclose([each["ffn_in"] for each in seen], units, rtol=1e-6)
    heads = [each["attention"] for each in seen]
    np.testing.assert_allclose(heads, np.array(units) / 32, rtol=1e-6)


def test_which_gates_are_over_which_kernels():
    model = compiled()
    for method, kinds in {
        "struct": [MovementScores] * 2,
        "hybrid": [BlockScores] * 4 + [MovementScores],
        "block": [BlockScores] * 6,
    }.items():
        pruning = MovementPruning(method, target=tfprune.Sparsity(0.5), verbose=0)
        pruning.set_model(model)
        pruning.set_params({"epochs": 1, "steps": 10})
        pruning.owner.begin()
        assert [type(g) for g in pruning.gates] == kinds
        pruning.owner.end()
        assert not gates_of(model)


@pytest.mark.parametrize(
    "options, name",
    [
        ({}, "target"),
        ({"method": "heads", "strength": 1.0}, "method"),
        ({"strength": -1.0}, "strength"),
        ({"strength": 1.0, "score_learning_rate": float("nan")}, "score_learning_rate"),
        ({"strength": 1.0, "initial_scores": "magnitude"}, "initial_scores"),
        ({"strength": 1.0, "initial_scores": "gradient_importance"}, "data"),
    ],
)
def test_bad_arguments(options, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        MovementPruning(**options)
