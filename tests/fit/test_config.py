"""Callbacks, targets and moments can be written down and made again."""

import json

import keras
import numpy as np
import pytest

import tfprune
from tests.fit.methods import METHODS, compiled, each_mostly_slow, fit, left, values
from tfprune.callbacks import GroupLasso, ImportancePruning, MovementPruning
from tfprune.schedules import Epoch, Fraction, Plateau, Step

pytestmark = pytest.mark.sampled


@each_mostly_slow("movement")
def test_a_callback_is_made_again(method):
    first = METHODS[method](start=Epoch(1))
    config = json.loads(json.dumps(first.get_config()))
    again = type(first).from_config(config)
    assert again.get_config() == first.get_config()
    trained = []
    for callback in (first, again):
        keras.utils.set_random_seed(2)
        model = compiled()
        fit(model, callback, epochs=4)
        trained.append(values(model))
        assert left(model)
    for a, b in zip(*trained, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_data_is_given_anew():
    x = np.ones((2, 3))
    first = ImportancePruning(target=tfprune.Sparsity("50%"), data=(x, x), rounds=2, stop=0.5)
    config = first.get_config()
    assert "data" not in config
    again = ImportancePruning.from_config(config, data=(x, x))
    assert again.target == first.target and again.rounds == 2 and again.stop == Fraction(0.5)
    with pytest.raises(ValueError, match="`data` must be given"):
        ImportancePruning.from_config(config)


def test_keras_serializes_them():
    for callback in (
        GroupLasso(["ffn"], strength={"ffn": 0.1}, start=Plateau("val_loss", 0.01)),
        GroupLasso(target=tfprune.Parameters(0.5), round_to={"ffn": 8}, within="model"),
        MovementPruning("hybrid", target=tfprune.Flops("60%", sequence_length=16), block=(4, 2)),
    ):
        data = json.loads(json.dumps(keras.saving.serialize_keras_object(callback)))
        again = keras.saving.deserialize_keras_object(data)
        assert type(again) is type(callback) and again.get_config() == callback.get_config()


@pytest.mark.parametrize(
    "value",
    [
        tfprune.Sparsity(0.3),
        tfprune.Parameters("40%"),
        tfprune.Flops(0.6, sequence_length=32),
        Step(4),
        Fraction(0.5),
        Epoch(1.5),
        Plateau("val_bleu", 1.0, "max"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_values_are_made_again(value):
    config = json.loads(json.dumps(value.get_config()))
    assert type(value).from_config(config) == value
    data = json.loads(json.dumps(keras.saving.serialize_keras_object(value)))
    assert keras.saving.deserialize_keras_object(data) == value
