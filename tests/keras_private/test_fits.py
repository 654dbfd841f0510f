"""What tfprune assumes about a fit that is running."""

import contextlib
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import keras
import numpy as np
import pytest

from tests.models import noise
from tfprune.keras_private import fits

X = noise(8, 4)


def compiled():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    return model


def elsewhere(function):
    """What a function returns in another thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


class Ask(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.lists, self.frames = [], []

    def set_model(self, model):
        super().set_model(model)
        self.lists.append(fits.callback_list())

    def on_train_begin(self, logs=None):
        self.lists.append(fits.callback_list())
        self.frames.append(fits.fit_frame(self.model))
        self.thread = threading.get_ident()
        assert self.is_running() and elsewhere(self.is_running)

    def is_running(self):
        return fits.is_running(self.frames[0], self.thread)

    def on_epoch_end(self, epoch, logs=None):
        assert self.is_running() and elsewhere(self.is_running)
        if epoch == 1:
            raise KeyboardInterrupt


def test_the_list_of_callbacks_and_the_frame_of_fit_are_found():
    ask = Ask()
    model = compiled()
    with pytest.raises(KeyboardInterrupt) as died:
        model.fit(X, X[:, :2], epochs=3, verbose=0, callbacks=[ask])
    assert not ask.is_running()
    # A debugger may want to see what the failed fit was about.
    frames = [frame for frame, _ in traceback.walk_tb(died.value.__traceback__)]
    assert any(f is ask.frames[0] and "epoch_iterator" in f.f_locals for f in frames)
    assert ask.lists[0] is ask.lists[1] and ask in ask.lists[0].callbacks
    assert ask.frames[0].f_locals["self"] is model
    assert not elsewhere(ask.is_running)
    assert fits.callback_list() is None and fits.fit_frame(model) is None


def test_what_a_fit_trains_on_is_found():
    class Look(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.found = fits.trained_on(self.model)

    class Task(keras.Model):  # As tasks of KerasHub do, it prepares what it is given.
        def fit(self, x=None, **options):
            return super().fit(x=2 * x, **options)

    look, model = Look(), compiled()
    model.fit(X, X[:, :2], verbose=0, callbacks=[look])
    assert len(look.found) == 1 and look.found[0] is X
    task = Task(model.inputs, model.outputs)
    task.compile("sgd", "mse")
    task.fit(x=X, y=X[:, :2], verbose=0, callbacks=[look])
    np.testing.assert_array_equal(look.found[0], 2 * X)
    assert len(look.found) == 2 and look.found[1] is X
    assert fits.trained_on(model) == []


def test_a_fit_that_failed_in_a_thread_that_has_ended_is_not_running():
    ask, model = Ask(), compiled()

    def train():
        with contextlib.suppress(KeyboardInterrupt):
            model.fit(X, X[:, :2], epochs=3, verbose=0, callbacks=[ask])

    elsewhere(train)
    assert not ask.is_running()


def test_a_backup_restores_from_the_path_that_it_gives_to_save_weights(tmp_path):
    backup = keras.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)
    other = keras.callbacks.ModelCheckpoint(tmp_path / "m.keras")
    model, saved = compiled(), []
    plain = model.save_weights

    def save_weights(filepath, *args, **kwargs):
        saved.append(str(filepath))
        return plain(filepath, *args, **kwargs)

    vars(model)["save_weights"] = save_weights
    model.fit(X, X[:, :2], verbose=0, callbacks=[backup])
    assert set(saved) == fits.backup_paths([backup, other]) and saved


def test_a_running_fit_goes_on_with_a_step_compiled_anew():
    class Penalty(fits.OwnLosses):
        def own_losses(self):
            return [keras.ops.convert_to_tensor(5.0)]

    class Switch(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            fits.remake_train_function(self.model)

        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                self.model.optimizer.learning_rate = 0.0
                fits.remake_train_function(self.model)

    inputs = keras.Input((4,))
    penalty = Penalty()
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    model.trainable = False
    model.compile(keras.optimizers.SGD(0.0), "mse")
    plain = model.evaluate(X, X[:, :2], verbose=0)
    model._tracker.unlock()
    model.part = penalty
    model._tracker.lock()
    fits.forget_compiled(model)
    assert model.test_function is None
    assert model.evaluate(X, X[:, :2], verbose=0) == pytest.approx(plain + 5.0, rel=1e-5)
    assert [float(keras.ops.convert_to_numpy(loss)) for loss in model.losses] == [5.0]
    history = model.fit(X, X[:, :2], epochs=2, verbose=0, callbacks=[Switch()]).history
    np.testing.assert_allclose(history["loss"], [plain + 5.0] * 2, rtol=1e-5)
    inputs = np.ones((1, 4))
    np.testing.assert_array_equal(penalty(inputs), inputs)


def test_looking_at_the_model_brings_weights_up_to_date():
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            fits.synchronize(self)
            (layer,) = self._model.layers
            seen.append(keras.ops.convert_to_numpy(layer.kernel).copy())

    compiled().fit(X, X[:, :2], batch_size=2, verbose=0, callbacks=[Look()])
    assert len(seen) == 4
    assert not any(np.array_equal(a, b) for a, b in pairwise(seen))
