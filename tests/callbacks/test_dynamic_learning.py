"""Trained gates of `DynamicSparsity` learn in a layer of the size of MiniLM's."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.models import noise
from tfprune.callbacks import DynamicSparsity
from tfprune.gates.dynamic import at_size

pytestmark = pytest.mark.sampled

WIDTH, HEADS, UNITS = 384, 12, 1536
SIZES = [1.0, 0.75, 0.5, 0.25]
X = noise(160, 3, WIDTH)
Y = np.tanh(4 * X.mean(axis=1)[:, :2])


def layer():
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((None, WIDTH), name="x")
    y = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.MultiHeadAttention(HEADS, WIDTH // HEADS, name="heads")(y, y)])
    y = layers.Dense(UNITS, "gelu", name="ffn_in")(layers.LayerNormalization()(x))
    x = layers.Add()([x, layers.Dense(WIDTH, name="ffn_out")(y)])
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


def nothing(y, y_pred):
    """A loss that does not depend on the gates."""
    return 0.0 * ops.mean(y_pred, axis=-1)


def trained(loss, strength, epochs=1):
    """Gates after 20 steps in each epoch, in which a score moves by at most 0.1 a step."""
    model = layer()
    model.compile(keras.optimizers.Adam(1e-3), loss)
    model.optimizer.build(model.trainable_variables)
    every = DynamicSparsity(
        SIZES, start=0, train_gates=True, strength=strength, score_learning_rate=0.1, verbose=0
    )
    model.fit(X, Y, batch_size=8, epochs=epochs, verbose=0, callbacks=[every])
    return model, every.gates


def moved(gates):
    scores = np.concatenate([ops.convert_to_numpy(g.scaled_scores) for g in gates], axis=1)
    assert scores.shape == (2, HEADS + UNITS)
    return np.abs(scores) > 1e-3


def test_without_a_loss_no_score_moves():
    _, gates = trained(nothing, 0.0)
    assert not np.any(moved(gates))


@pytest.mark.parametrize("loss, strength", [("mse", 0.0), (nothing, 8.0)])
def test_nearly_every_score_learns_from_the_loss_and_from_the_size(loss, strength):
    # The loss reaches a drawn gate in some of the steps alone: at its own size, in 3 of 10.
    _, gates = trained(loss, strength, epochs=3)
    assert np.mean(moved(gates)) > 0.95


def at_each_size(model, gates):
    """Groups that are open where the ranking did not have them; by how much sizes are missed."""
    newcomers, missed = 0, []
    for size in SIZES:
        with at_size(model, size):
            is_open = [g.open_groups() for g in gates]
        ranked = [ops.convert_to_numpy(g.opens_at) <= size for g in gates]
        newcomers += sum(np.sum(now & ~then) for now, then in zip(is_open, ranked, strict=True))
        left = sum(m.sum() * g.structure.group_size for m, g in zip(is_open, gates, strict=True))
        missed.append(abs(left / sum(g.structure.weights for g in gates) - size))
    return newcomers, max(missed)


def test_groups_change_places_and_the_penalty_keeps_the_sizes():
    newcomers, missed = at_each_size(*trained("mse", 8.0, epochs=3))
    assert newcomers > 15 and missed < 0.03
    assert at_each_size(*trained("mse", 0.0, epochs=3))[1] > 0.05
    newcomers, missed = at_each_size(*trained(nothing, 0.0))
    assert newcomers == 0 and missed < 1e-2  # A head weighs more than what is left of a bin.
