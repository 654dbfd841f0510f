import keras
import numpy as np
import pytest
from keras import ops

import tfprune
from tests.models import assert_same, compile_and_build, noise, outputs, randomize, transformer
from tfprune.callbacks import MovementPruning
from tfprune.gates import BlockScores, MovementScores, gates_of

pytestmark = pytest.mark.one_backend

X, Y = noise(32, 3, 8), noise(32, 3, 3, seed=2)


def compiled(**options):
    model = randomize(transformer(units=24, activation="gelu"), 0)
    return compile_and_build(model, keras.optimizers.Adam(1e-3), "mse", **options)


def fit(model, *callbacks, epochs=5, **options):
    return model.fit(
        X, Y, batch_size=8, epochs=epochs, verbose=0, callbacks=list(callbacks), **options
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


def test_blocks_are_masked_as_a_share_and_filled_anew():
    filled = {}
    for method in ("hybrid", "hybrid_filled"):
        keras.utils.set_random_seed(0)
        model = compiled()
        pruning = MovementPruning(
            method, target=tfprune.Sparsity(0.5), block=(2, 2), start=0.0, stop=0.5, verbose=0
        )

        class Decided(keras.callbacks.Callback):
            closed = None

            def on_epoch_end(self, epoch, logs=None, pruning=pruning):
                self.model  # noqa: B018
                if not pruning.decided:
                    blocks = [g for g in pruning.gates if isinstance(g, BlockScores)]
                    self.closed = np.mean(
                        np.concatenate([ops.convert_to_numpy(g.values()).ravel() for g in blocks])
                        == 0
                    )

        fit(model, Decided(), pruning, epochs=4)
        (head,) = np.flatnonzero(tfprune.find_structures(model)["attention"].norms())
        value = model.get_layer("attention")._value_dense.kernel
        filled[method] = ops.convert_to_numpy(value)[:, head]
    assert not np.array_equal(filled["hybrid"], filled["hybrid_filled"])
    assert np.abs(filled["hybrid"]).min() < 0.02  # Masked before, so trained from zero.


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
        model = compiled()
        pruning = MovementPruning(
            strength=strength, score_learning_rate=0.2, start=0, stop=0.9, verbose=0
        )
        fit(model, pruning, epochs=10)
        return {s.name: np.count_nonzero(s.norms()) for s in tfprune.find_structures(model)}

    none, strong, by_part = left(0.0), left(10.0), left({"ffn": 10.0})
    assert none["ffn_in"] > 12 > strong["ffn_in"]
    assert by_part["ffn_in"] == strong["ffn_in"] and by_part["attention"] == none["attention"]


def test_strengths_of_a_decoder_and_of_heads():
    from tfprune.translation import student

    model = student(60, 1, 1, model_dim=8, feed_forward_dim=12, num_heads=2, max_length=8)
    model.compile("adam", "mse")
    pruning = MovementPruning(strength=0.32, structures=["ffn", ".*attention.*"], verbose=0)
    pruning.set_model(model)
    pruning.set_params({"epochs": 1, "steps": 10})
    pruning.owner.begin()
    pruning.on_step(0, 0)
    strengths = ops.convert_to_numpy(pruning.state.strengths)
    found = dict(zip((s.name for s in pruning.structures), strengths, strict=True))
    assert found["encoder_0_ffn_in"] == pytest.approx(0.32)
    assert found["encoder_0_attention"] == pytest.approx(0.01)
    assert found["decoder_0_ffn_in"] == pytest.approx(0.64)
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
    units = [0.0, 0.0, 0.1, 0.2, 0.3, 0.0, 0.0, 0.0]
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
        ({"target": tfprune.Sparsity(0.5), "strength": 1.0}, "strength"),
        ({"method": "heads", "strength": 1.0}, "method"),
        ({"strength": -1.0}, "strength"),
        ({"strength": 1.0, "score_learning_rate": float("nan")}, "score_learning_rate"),
    ],
)
def test_bad_arguments(options, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        MovementPruning(**options)
