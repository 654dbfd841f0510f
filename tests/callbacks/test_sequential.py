"""A Sequential model is pruned as the same layers in a Functional model are."""

import keras
import numpy as np
import pytest

import tfprune
from tests.models import Killed, compile_and_build, noise, randomize
from tfprune.callbacks import (
    DynamicSparsity,
    GroupLasso,
    HardConcreteGates,
    ImportancePruning,
    MovementPruning,
)
from tfprune.gates import gates_of

pytestmark = pytest.mark.sampled

X, Y = noise(32, 8), noise(32, 3, seed=2)
HALF = {"target": tfprune.Sparsity(0.5), "verbose": 0, "check_every": 2}
METHODS = {
    "group lasso": lambda: GroupLasso(strength=0.05, start=8, stop=None, verbose=0),
    "hard concrete": lambda: HardConcreteGates(**HALF),
    "movement": lambda: MovementPruning(**HALF),
    "importance": lambda: ImportancePruning(data=(X, Y), start=4, **HALF),
    "dynamic": lambda: DynamicSparsity([1.0, 0.5], data=(X, Y), verbose=0),
}


def compiled(sequential):
    parts = [
        keras.layers.Dense(16, "gelu", name="first"),
        keras.layers.Dense(12, "relu", name="second"),
        keras.layers.Dense(3, name="third"),
    ]
    if sequential:
        model = keras.Sequential([keras.Input((8,)), *parts])
    else:
        x = inputs = keras.Input((8,))
        for layer in parts:
            x = layer(x)
        model = keras.Model(inputs, x)
    randomize(model)
    return compile_and_build(model, keras.optimizers.Adam(1e-2), "mse")


def fit(model, *callbacks):
    options = {"batch_size": 8, "epochs": 5, "verbose": 0, "shuffle": False}
    return model.fit(X, Y, callbacks=list(callbacks), **options)


@pytest.mark.parametrize("method", METHODS)
def test_it_comes_out_the_same(method):
    found = []
    for sequential in (True, False):
        model = compiled(sequential)
        history = fit(model, METHODS[method]()).history
        found.append((history["loss"], tfprune.rebuild(model).get_weights()))
    (losses, weights), (expected_losses, expected) = found
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    for a, b in zip(weights, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", ["movement", "group lasso", "dynamic"])
def test_killed_and_resumed_is_not_killed(method, tmp_path):
    def run(folder, *more):
        model = compiled(True)
        fit(model, METHODS[method](), keras.callbacks.BackupAndRestore(folder), *more)
        return tfprune.rebuild(model).get_weights()

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", Killed(2))
    for a, b in zip(run(tmp_path / "killed"), run(tmp_path / "whole"), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_a_file_saved_meanwhile_loads_without_gates(tmp_path):
    model = compiled(True)
    names = [layer.name for layer in model.layers]
    fit(model, DynamicSparsity([0.5], data=(X, Y), verbose=0))
    assert gates_of(model) and [layer.name for layer in model.layers] == names
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert not gates_of(loaded)
    for layer in model.layers:
        for a, b in zip(layer.get_weights(), loaded.get_layer(layer.name).get_weights()):  # noqa: B905
            np.testing.assert_array_equal(a, b)
