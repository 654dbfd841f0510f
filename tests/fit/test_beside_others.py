"""Keras's own callbacks, before and after the pruning callbacks in the list."""

import h5py
import keras
import numpy as np
import pytest

import tfprune
from tests.fit.methods import METHODS, X, Y, compiled, each_mostly_slow, fit, values
from tests.models import Killed, assert_same, outputs
from tfprune.gates import gates_of

pytestmark = pytest.mark.sampled

either = pytest.mark.parametrize("ours_first", [True, False], ids=["before", "after"])


def listed(ours, theirs, ours_first):
    return [ours, theirs] if ours_first else [theirs, ours]


@each_mostly_slow("hard concrete", "importance")
@either
def test_early_stopping_restores_the_best_weights(method, ours_first):
    model = compiled()
    stopping = keras.callbacks.EarlyStopping(
        "loss", mode="max", patience=1, restore_best_weights=True, start_from_epoch=1
    )
    fit(model, *listed(METHODS[method](), stopping, ours_first), epochs=5)
    if method != "dynamic":  # It leaves its gates on the model.
        assert len(model.get_weights()) == 18
    if method in ("importance", "hard concrete", "movement"):
        # What was pruned stays so, whatever weights were restored.
        small = tfprune.rebuild(model)
        assert tfprune.find_structures(small)["ffn_in"].groups == 3
    if method != "dynamic":
        assert_same(outputs(model, X), outputs(tfprune.rebuild(model), X))


@each_mostly_slow("hard concrete")
@either
@pytest.mark.parametrize("weights_only", [False, True], ids=["model", "weights"])
def test_a_checkpoint_is_the_model_as_it_computed_then(method, ours_first, weights_only, tmp_path):
    model = compiled()
    name = "{epoch}.weights.h5" if weights_only else "{epoch}.keras"
    saver = keras.callbacks.ModelCheckpoint(tmp_path / name, save_weights_only=weights_only)
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(self.model.predict(X, verbose=0))

    fit(model, *listed(METHODS[method](), saver, ours_first), Look(), epochs=4)
    for epoch, predicted in enumerate(seen, 1):
        path = tmp_path / name.format(epoch=epoch)
        if weights_only:
            loaded = compiled()
            loaded.load_weights(path)
        else:
            loaded = keras.saving.load_model(path)
            assert len(loaded.weights) == 18
            assert len(loaded.optimizer.variables) == 2 + 2 * 18
        if ours_first or method not in ("hard concrete", "movement", "group lasso", "lottery"):
            # Before ours, a checkpoint is taken before the groups of this epoch are decided.
            assert_same([predicted], outputs(loaded, X), 1e-4)


def weights_in(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, x: found.update({name: getattr(x, "shape", None)}))
    return {name: shape for name, shape in found.items() if "optimizer" not in name}


@each_mostly_slow("lottery")
def test_a_checkpoint_holds_the_weights_of_the_model_alone(method, tmp_path):
    model = compiled()
    model.save_weights(tmp_path / "plain.weights.h5")
    saver = keras.callbacks.ModelCheckpoint(tmp_path / "1.weights.h5", save_weights_only=True)
    fit(model, METHODS[method](), saver, epochs=1)
    assert weights_in(tmp_path / "1.weights.h5") == weights_in(tmp_path / "plain.weights.h5")


@each_mostly_slow("importance")
@either
def test_averaged_weights(method, ours_first):
    optimizer = keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.5)
    model = compiled(optimizer)
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    fit(model, *listed(METHODS[method](), swap, ours_first), epochs=4)
    if method != "dynamic":
        small = tfprune.rebuild(model)
        assert_same(outputs(model, X), outputs(small, X))
        if method != "group lasso":
            assert small.count_params() < model.count_params()


@each_mostly_slow("movement")
@either
def test_killed_and_resumed_is_not_killed(method, ours_first, tmp_path):
    def trained(folder, *more):
        model = compiled()
        backup = keras.callbacks.BackupAndRestore(folder, delete_checkpoint=False)
        fit(model, *listed(METHODS[method](), backup, ours_first), *more, epochs=4)
        return model

    keras.utils.set_random_seed(1)
    whole = trained(tmp_path / "whole")
    for epoch in (1, 3):
        keras.utils.set_random_seed(1)
        folder = tmp_path / f"killed_{epoch}"
        with pytest.raises(KeyboardInterrupt):
            trained(folder, Killed(epoch))
        keras.utils.set_random_seed(1)
        resumed = trained(folder)
        if method == "hard concrete":
            continue  # The draws of a resumed fit are others.
        for a, b in zip(values(whole), values(resumed), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_evaluation_during_a_fit_sees_the_gates():
    model = compiled()
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append((self.model.evaluate(X, Y, verbose=0), len(gates_of(self.model))))

    fit(model, METHODS["hard concrete"](), Look(), epochs=2)
    assert [n for _, n in seen] == [2, 2] and all(np.isfinite(v) for v, _ in seen)
