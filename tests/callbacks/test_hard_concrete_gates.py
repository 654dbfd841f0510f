import keras
import numpy as np
import pytest

import tfprune
from tests.models import assert_same, compile_and_build, noise, outputs, randomize, transformer
from tfprune.callbacks import HardConcreteGates
from tfprune.gates import gates_of

pytestmark = pytest.mark.sampled

X, Y = noise(32, 3, 8), noise(32, 3, 3, seed=2)


def compiled(optimizer=None, **options):
    model = randomize(transformer(units=24), 0)
    optimizer = optimizer or keras.optimizers.AdamW(1e-2, weight_decay=0.1)
    return compile_and_build(model, optimizer, "mse", **options)


def fit(model, *callbacks, epochs=4, **options):
    return model.fit(
        X, Y, batch_size=8, epochs=epochs, verbose=0, callbacks=list(callbacks), **options
    )


@pytest.mark.parametrize("penalty", ["lagrangian", "l1"])
def test_the_target_is_met_and_the_gates_are_gone(penalty):
    model = compiled()
    names = [w.path for w in model.weights]
    gates = HardConcreteGates(
        target=tfprune.Sparsity(0.5), penalty=penalty, check_every=2, verbose=0
    )
    history = fit(model, gates).history
    assert not gates_of(model) and [w.path for w in model.weights] == names
    assert len(model.optimizer._trainable_variables) == len(model.trainable_variables)
    assert gates.reached == pytest.approx(0.5, abs=0.03)
    assert history["groups/ffn"][-1] + history["groups/heads"][-1] < 26
    small = tfprune.rebuild(model)
    assert_same(outputs(model, X), outputs(small, X))
    assert small.count_params() < 0.65 * model.count_params()


def test_the_expected_size_goes_to_the_target():
    model = compiled(keras.optimizers.Adam(1e-3))
    seen = []

    class Watched(HardConcreteGates):
        def on_step(self, step, steps):
            super().on_step(step, steps)
            seen.append(self._gap(self.target.limit))

    gates = Watched(
        ["ffn"], target=tfprune.Sparsity(0.5), stop=0.9, score_learning_rate=0.1, verbose=0
    )
    fit(model, gates, epochs=60)
    assert seen[0] > 0.4 and abs(np.mean(seen[-5:])) < 0.1


def test_before_it_starts_training_is_as_without_it():
    model, plain = (compiled(keras.optimizers.Adam(1e-3)) for _ in range(2))
    gates = HardConcreteGates(target=tfprune.Sparsity(0.5), start=6, stop=12, check_every=1)
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(keras.ops.convert_to_numpy(self.model.trainable_variables[0]).copy())

    fit(model, gates, Watch(), shuffle=False)
    with_gates, seen = seen, []
    fit(plain, Watch(), shuffle=False)
    for with_one, without in zip(with_gates[:6], seen[:6], strict=True):
        np.testing.assert_allclose(with_one, without, rtol=1e-5, atol=1e-6)
    assert np.abs(with_gates[-1] - seen[-1]).max() > 1e-4


def test_strength_alone_closes_gates():
    def left(strength):
        model = compiled(keras.optimizers.Adam(1e-3))
        gates = HardConcreteGates(strength=strength, stop=None, score_learning_rate=0.2, verbose=0)
        fit(model, gates, epochs=20)
        return sum(np.count_nonzero(s.norms()) for s in tfprune.find_structures(model))

    assert left(0.0) > left(50.0)


def test_the_optimizer_keeps_its_memory():
    model = compiled(keras.optimizers.Adam(1e-2))
    fit(model, epochs=2)
    optimizer = model.optimizer
    step = int(keras.ops.convert_to_numpy(optimizer.iterations))
    kernel = model.get_layer("out").kernel
    place = next(i for i, v in enumerate(optimizer._trainable_variables) if v is kernel)
    momentum = keras.ops.convert_to_numpy(optimizer._momentums[place]).copy()
    trained = len(optimizer._trainable_variables)
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            now = self.model.optimizer
            place = next(i for i, v in enumerate(now._trainable_variables) if v is kernel)
            seen.append(keras.ops.convert_to_numpy(now._momentums[place]).copy())
            seen.append(int(keras.ops.convert_to_numpy(now.iterations)))
            seen.append(len(now._trainable_variables))

    fit(model, HardConcreteGates(target=tfprune.Sparsity(0.5), verbose=0), Look(), epochs=1)
    np.testing.assert_array_equal(momentum, seen[0])
    assert seen[1] == step
    assert seen[2] == trained + 2
    assert model.optimizer is optimizer and len(optimizer._trainable_variables) == trained


def test_a_model_saved_in_between_loads_plainly(tmp_path):
    model = compiled()
    saver = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
    fit(model, HardConcreteGates(target=tfprune.Sparsity(0.5), verbose=0), saver)
    for epoch in (1, 4):
        loaded = keras.saving.load_model(tmp_path / f"{epoch}.keras")
        assert len(loaded.weights) == len(model.weights)


@pytest.mark.parametrize(
    "options, name",
    [
        ({}, "target"),
        ({"target": 0.5}, "target"),
        ({"strength": -1}, "strength"),
        ({"strength": float("nan")}, "strength"),
        ({"strength": 1, "penalty": "l2"}, "penalty"),
        ({"strength": 1, "warm_up": 2}, "warm_up"),
        ({"strength": 1, "score_learning_rate": 0}, "score_learning_rate"),
    ],
)
def test_bad_arguments(options, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        HardConcreteGates(**options)


def test_given_twice_or_out_of_reach():
    model = compiled()
    before = outputs(model, X)
    with pytest.raises(ValueError, match="holds two that prune"):
        fit(model, *(HardConcreteGates(strength=1.0, verbose=0) for _ in range(2)))
    model = compiled()
    with pytest.raises(ValueError, match="`target` cannot be reached"):
        fit(model, HardConcreteGates(target=tfprune.Parameters(0.01)))
    assert_same(before, outputs(model, X), 0)
    assert not gates_of(model)
