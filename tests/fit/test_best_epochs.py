"""Keras's callbacks that keep the best epoch keep one of the pruned model, or it is said."""

import warnings

import keras
import numpy as np
import pytest

import tfprune
from tests.fit.methods import METHODS, X, Y, compiled, fit, left
from tests.models import assert_same, outputs

pytestmark = pytest.mark.sampled

RISING = {"monitor": "quality", "mode": "max"}


class Quality(keras.callbacks.Callback):
    """Writes a metric into the logs that is best in the first epoch, before anything is pruned."""

    def __init__(self, values, name="quality"):
        super().__init__()
        self.values, self.name = values, name

    def on_epoch_end(self, epoch, logs=None):
        logs[self.name] = self.values[epoch]


class Look(keras.callbacks.Callback):
    """Keeps what the model computes after each epoch."""

    def on_train_begin(self, logs=None):
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(self.model.predict(X, verbose=0))


def warned(function, *args, **kwargs):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        function(*args, **kwargs)
    return [str(w.message) for w in seen]


@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize("method", ["importance", "movement"])
def test_early_stopping_restores_the_best_epoch_of_the_pruned_model(method, ours_first):
    model, look = compiled(), Look()
    pruning = METHODS[method](**{"importance": {"start": 0.3}, "movement": {"stop": 0.3}}[method])
    stopping = keras.callbacks.EarlyStopping(**RISING, patience=9, restore_best_weights=True)
    two = [pruning, stopping] if ours_first else [stopping, pruning]
    # Pruned amid the second epoch; the fourth is the best of those that were trained pruned.
    said = warned(fit, model, Quality([9, 8, 3, 5, 4]), *two, look, epochs=5)
    assert stopping.best_epoch == 3 and stopping.best == 5
    assert not any("restore" in text for text in said)
    assert left(model)["ffn_in"] == 3
    assert_same([look.seen[3]], outputs(tfprune.rebuild(model), X), 1e-4)


@pytest.mark.parametrize(
    "monitor, best", [("val_quality", 1), ("quality", 2)], ids=["validation", "training"]
)
def test_the_epoch_of_the_change_counts_where_it_was_validated_after_it(monitor, best):
    model = compiled()
    stopping = keras.callbacks.EarlyStopping(monitor, 0, 9, mode="max", restore_best_weights=True)
    pruning = METHODS["importance"](start=6)
    fit(model, pruning, Quality([9, 8, 3], monitor), stopping)
    assert stopping.best_epoch == best


@pytest.mark.parametrize("ours_first", [True, False])
def test_the_best_file_is_of_the_pruned_model(ours_first, tmp_path):
    model, look = compiled(), Look()
    path = tmp_path / "best.keras"
    saver = keras.callbacks.ModelCheckpoint(path, **RISING, save_best_only=True)
    pruning = METHODS["importance"](start=0.3)
    two = [pruning, saver] if ours_first else [saver, pruning]
    said = warned(fit, model, Quality([9, 8, 3, 5, 4]), *two, look, epochs=5)
    assert not any("ModelCheckpoint" in text for text in said)
    best = keras.saving.load_model(path)
    assert left(best)["ffn_in"] == 3
    assert_same([look.seen[3]], outputs(best, X), 1e-4)


def test_a_best_file_from_before_pruning_is_said(tmp_path):
    saver = keras.callbacks.ModelCheckpoint(tmp_path / "a.keras", **RISING, save_best_only=True)
    late = METHODS["importance"](start=0.99)
    said = warned(fit, compiled(), Quality([9, 8, 7]), saver, late)
    assert any("no epoch of the pruned model" in text and "a.keras" in text for text in said)


def test_a_threshold_stays(tmp_path):
    saver = keras.callbacks.ModelCheckpoint(
        tmp_path / "a.keras", **RISING, save_best_only=True, initial_value_threshold=4
    )
    fit(compiled(), Quality([3, 3, 5]), saver, METHODS["importance"](start=4))
    assert saver.best == 5
    fit(compiled(), Quality([3, 3, 3]), saver, METHODS["importance"](start=4))
    assert saver.best == 5


def test_weights_that_somebody_else_restores_are_said():
    class Restorer(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                self.best = self.model.get_weights()

        def on_train_end(self, logs=None):
            self.model.set_weights(self.best)

    model = compiled()
    pruning = METHODS["importance"](start=6)
    said = warned(fit, model, pruning, Restorer())
    assert sum("restores the best epoch" in text for text in said) == 1
    assert left(model)["ffn_in"] == 3
    assert not any("restore" in text for text in warned(fit, compiled(), pruning))


@pytest.mark.parametrize("method", ["importance", "hard concrete", "dynamic", "lottery"])
def test_a_fit_that_ends_before_pruning_is_over_is_said(method):
    late = {"hard concrete": {"stop": 0.9}, "lottery": {"round_length": 7}}
    late = late.get(method, {"start": 0.9})
    stopping = keras.callbacks.EarlyStopping(**RISING, patience=0)
    model = compiled()
    said = warned(fit, model, METHODS[method](**late), Quality([9, 8, 7, 6]), stopping, epochs=4)
    assert any("the fit ended" in text for text in said)
    if method != "lottery":
        assert any("after 8 of 16 steps" in text for text in said)
    said = warned(fit, compiled(), METHODS[method](**late), epochs=4)
    assert not any("the fit ended" in text for text in said)


@pytest.mark.parametrize("cause", ["a plain fit", "other weights", "a fit that died"])
def test_groups_that_have_weights_again_are_said_by_rebuild(cause):
    model = compiled(units=6, activation="softplus")
    dense = model.get_weights()
    pruning = METHODS["importance"](structures="ffn", start=0)
    if cause == "a fit that died":
        with pytest.raises(KeyboardInterrupt):
            fit(model, pruning, keras.callbacks.LambdaCallback(on_epoch_end=_stop))
    else:
        fit(model, pruning)
    assert not any("again" in text for text in warned(tfprune.rebuild, model))
    if cause == "other weights":
        model.set_weights(dense)
    else:
        fit(model, epochs=1)
    assert left(model)["ffn_in"] == 6
    (text,) = [text for text in warned(tfprune.rebuild, model) if "again" in text]
    assert "3 groups" in text and "3 of ffn_in" in text and "right after the fit" in text
    keep = {"ffn_in": np.arange(6) < 3}
    assert not any("again" in text for text in warned(tfprune.rebuild, model, keep=keep))
    fit(model, METHODS["importance"](structures="ffn", start=0))
    assert not any("again" in text for text in warned(tfprune.rebuild, model))


def _stop(epoch, logs=None):
    raise KeyboardInterrupt


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("method", ["group lasso", "hard concrete"])
@pytest.mark.parametrize("reads", ["nothing", "losses", "compute_loss"])
def test_a_penalty_that_a_train_step_does_not_read_is_said(method, reads):
    import tensorflow as tf

    error = keras.losses.MeanSquaredError()

    class Own(keras.Model):
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                predicted = self(x, training=True)
                if reads == "compute_loss":
                    loss = self.compute_loss(x, y, predicted)
                else:
                    loss = error(y, predicted) + (sum(self.losses) if reads == "losses" else 0)
            variables = self.trainable_weights
            self.optimizer.apply(tape.gradient(loss, variables), variables)
            return {"loss": loss}

    plain = compiled()
    model = Own(plain.inputs, plain.outputs)
    model.compile("adam", "mse")
    said = warned(model.fit, X, Y, epochs=2, verbose=0, callbacks=[METHODS[method]()])
    about = [text for text in said if "model.losses" in text]
    assert len(about) == (reads == "nothing")
    assert all("Own" in text and "compute_loss" in text for text in about)


def test_no_penalty_needs_no_reading():
    assert not any("model.losses" in t for t in warned(fit, compiled(), METHODS["importance"]()))


def test_a_moving_average_of_weights_that_shrink_is_not_said():
    """It has a little of each step in pruned groups, of which others have hardly more by then."""
    model = compiled(keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.5))
    average = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    said = warned(fit, model, METHODS["group lasso"](strength=1.0), average, epochs=6)
    assert not any("set weights" in text for text in said)
    assert sum(left(model).values()) < 8
