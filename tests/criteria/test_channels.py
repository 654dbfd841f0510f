"""Criteria that look at what layers read, where these are convolutions."""

import keras
import numpy as np
import pytest
from keras import layers

import tfprune
from tests.convolutional import network
from tests.models import noise, outputs
from tests.repair.test_convolutions import doubled
from tfprune.criteria import activation, reconstruction, wanda

pytestmark = pytest.mark.sampled("jax")

X = noise(16, 8, 8, 3)


def test_activation_by_hand():
    model = doubled()
    read = keras.Model(model.input, model.get_layer("a").output)
    value = outputs(read, X)[0]
    kernel = np.asarray(model.get_layer("b").kernel)
    padded = np.pad(value, [(0, 0), (1, 1), (1, 1), (0, 0)])
    expected = np.zeros(8)
    for i in range(3):
        for j in range(3):
            seen = padded[:, i : i + 6, j : j + 6].reshape(-1, 8)
            expected += seen.var(axis=0) * (kernel[i, j] ** 2).sum(axis=-1)
    # Of each batch some hundreds of positions are drawn.
    np.testing.assert_allclose(activation(model, X)["a"], expected, rtol=0.2)


def test_one_of_two_channels_that_are_the_same_leaves_at_no_cost():
    scores = reconstruction(doubled(), X)["a"]
    pairs = np.sort(np.stack([scores[:4], scores[4:]]), axis=0)
    assert pairs[0].max() < 0.05 * pairs[1].min()


@pytest.mark.parametrize("criterion", [activation, wanda, reconstruction])
@pytest.mark.parametrize("name", ["residual", "inverted", "dense"])
def test_scores(criterion, name):
    model = network(name)
    scores = criterion(model, X)
    for structure in tfprune.find_structures(model):
        mine = scores[structure.name]
        assert mine.shape == (structure.groups,)
        assert np.isfinite(mine).all() and np.all(mine > -1e-6) and mine.max() > 0


def test_what_another_structure_emits_is_left_to_it():
    """The kernel reads two structures side by side, and scores of one are its own."""
    inputs = keras.Input((8, 8, 3))
    both = [layers.Conv2D(n, 1, name=name)(inputs) for name, n in (("a", 2), ("b", 3))]
    head = layers.Conv2D(2, 1, name="head")
    model = keras.Model(inputs, layers.GlobalMaxPooling2D()(head(layers.Concatenate()(both))))
    kernel = np.zeros((1, 1, 5, 2), "float32")
    kernel[0, 0, 3] = 1.0  # The second channel of b alone is read.
    head.kernel.assign(kernel)
    scores = activation(model, X)
    assert np.all(scores["a"] == 0)
    assert np.flatnonzero(scores["b"]).tolist() == [1]


def test_without_labels_channels_are_scored_by_reconstruction(capsys):
    model = network("inverted")
    tfprune.prune(model, tfprune.Sparsity(0.4), X)
    assert "by reconstruction" in capsys.readouterr().out
