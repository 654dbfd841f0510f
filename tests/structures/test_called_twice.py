"""Layers that are called twice, once on what must stay."""

import keras
import numpy as np
import pytest
from keras import layers

import tfprune
from tests.models import assert_same, noise, outputs, randomize
from tests.own_layers import Scale

pytestmark = pytest.mark.sampled("jax")

WIDTH = 4
SERIES = noise(3, 5, WIDTH)


def on_what_it_made(layer):
    return lambda x: layer(layer(x))


def on_what_another_made(layer):
    """Given the input of the model and what a convolution made."""

    def network(x):
        made = layer(layers.Conv1D(WIDTH, 1, activation="tanh", name="before")(x))
        return layers.Add()([layers.Conv1D(WIDTH, 1)(made), layer(x)])

    return network


def under_a_mask(layer):
    """Given what is masked, which is not followed, and what is not."""

    def network(x):
        y = layers.Conv1D(WIDTH, 1, name="before")(x)
        z = layers.Dense(WIDTH, name="behind")(layer(y))
        return layers.Add()([layer(layers.Masking()(x)), z])

    return network


@pytest.mark.parametrize(
    ("make", "layer", "kept"),
    [
        (on_what_it_made, lambda: layers.LSTM(WIDTH, return_sequences=True), "shared"),
        (on_what_it_made, lambda: layers.Conv1D(WIDTH, 1), "shared"),
        (on_what_another_made, lambda: layers.Dense(WIDTH), "before"),
        (on_what_another_made, layers.BatchNormalization, "before"),
        (on_what_another_made, lambda: layers.GroupNormalization(2), "before"),
        (on_what_another_made, lambda: layers.PReLU(shared_axes=[1]), "before"),
        (on_what_another_made, lambda: layers.DepthwiseConv1D(1), "before"),
        (on_what_another_made, lambda: layers.SeparableConv1D(WIDTH, 1), "before"),
        (on_what_another_made, Scale, "before"),
        (under_a_mask, lambda: layers.Conv1D(WIDTH, 1), "before"),
    ],
)
def test_what_one_call_needs_whole_stays(make, layer, kept):
    keras.utils.set_random_seed(0)
    shared = layer()
    shared.name = "shared"
    x = keras.Input(SERIES.shape[1:])
    y = layers.GlobalAveragePooling1D()(make(shared)(x))
    model = randomize(keras.Model(x, layers.Dense(2, name="head")(y)))
    structures = tfprune.find_structures(model)
    for structure in structures:
        structure.scale((np.arange(structure.groups) % 2).astype("float32"))
    reasons = {s.name: s.reason for s in structures.skipped}
    assert "shared is also given what must stay" in reasons[kept]
    expected = outputs(model, SERIES)
    assert_same(expected, outputs(tfprune.rebuild(model), SERIES))
