import keras
import numpy as np
import pytest

from tests.models import Killed
from tfprune.schedules import Plateau
from tfprune.translation.best_checkpoint import BestCheckpoint


class Scripted(keras.callbacks.Callback):
    """Writes a metric into the logs and notes the model after each epoch."""

    def __init__(self, values):
        super().__init__()
        self.values, self.weights, self.steps = values, {}, {}

    def on_epoch_end(self, epoch, logs=None):
        logs["val_bleu"] = self.values[epoch]
        self.weights[epoch] = self.model.get_weights()
        self.steps[epoch] = int(self.model.optimizer.iterations)


X = np.random.default_rng(0).normal(size=(8, 2)).astype("float32")


def fit(folder, values, patience, min_delta=1.0, kill=None, untrained=None):
    """The model, and what was scripted."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.1), "mse")
    scripted = Scripted(values)
    callbacks = [
        scripted,
        BestCheckpoint(
            folder / "history.json", Plateau("val_bleu", min_delta), patience, untrained
        ),
        keras.callbacks.BackupAndRestore(str(folder / "backup")),
    ]
    if kill is not None:
        callbacks.append(Killed(kill))
    try:
        model.fit(X, X[:, :1], batch_size=4, epochs=len(values), verbose=0, callbacks=callbacks)
    except KeyboardInterrupt:
        assert kill is not None
    return model, scripted


@pytest.mark.parametrize(
    ("values", "patience", "epochs", "best"),
    [
        # Less than a point in one epoch; the best is kept, however little it gains.
        ([10, 12, 12.5, 20], 1, 3, 3),
        ([10, 12, 11.5, 20], 1, 3, 2),
        # A point in two epochs is enough, also where the first of them is worse.
        ([10, 10.5, 11.2, 11.5, 12.3, 12.4, 12.5, 30], 2, 6, 6),
        ([10, 9, 11, 11, 11, 30], 2, 5, 3),
        ([1, 3, 5], 1, 3, 3),  # It never stalls.
    ],
)
def test_a_fit_ends_when_the_metric_stalls(tmp_path, values, patience, epochs, best):
    model, scripted = fit(tmp_path, values, patience)
    assert len(scripted.steps) == epochs
    assert BestCheckpoint.best_epoch(tmp_path / "history.json") == best
    for kept, now in zip(scripted.weights[best - 1], model.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, now)
    assert int(model.optimizer.iterations) == 2 * best
    assert [path.name for path in tmp_path.glob("history*")] == ["history.json"]


@pytest.mark.parametrize(("untrained", "epochs"), [(None, 2), (0.0, 6)])
def test_a_metric_that_has_not_begun_to_rise_has_not_stalled(tmp_path, untrained, epochs):
    values = [0.0, 0.1, 0.2, 1.5, 4.0, 4.2, 9.0]
    _, scripted = fit(tmp_path, values, 1, untrained=untrained)
    assert len(scripted.steps) == epochs


def test_a_killed_fit_goes_on_counting(tmp_path):
    values = [10, 12, 11, 11.5, 30]
    whole, _ = fit(tmp_path / "whole", values, 2)
    _, before = fit(tmp_path / "killed", values, 2, kill=3)
    model, after = fit(tmp_path / "killed", values, 2)
    assert list(before.steps) == [0, 1, 2] and list(after.steps) == [3]
    assert BestCheckpoint.best_epoch(tmp_path / "killed" / "history.json") == 2
    assert int(model.optimizer.iterations) == 4
    for a, b in zip(whole.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="`patience`"):
        BestCheckpoint(tmp_path / "history.json", Plateau("val_bleu"), 0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    stop = BestCheckpoint(tmp_path / "history.json", Plateau("val_bleu"))
    with pytest.raises(ValueError, match="'val_bleu', which is not in the epoch logs.*loss"):
        model.fit(X, X[:, :1], verbose=0, callbacks=[stop])
