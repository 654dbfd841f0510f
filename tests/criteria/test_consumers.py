"""Criteria that look at what the layers behind groups read, against NumPy."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfprune
from tests.models import assert_same, noise, outputs, randomize
from tfprune import criteria
from tfprune.callbacks import ImportancePruning
from tfprune.overlay.activations import observe
from tfprune.overlay.folding import times
from tfprune.overlay.transforms import transform_weight

pytestmark = pytest.mark.sampled("jax")

X = noise(20, 6, 8) + 0.5


def factor(name, x):
    """What a criterion multiplies squared norms with, by its equation."""
    x = x.astype("float64").reshape(-1, x.shape[-1])
    return x.var(axis=0) if name == "activation" else np.mean(x**2, axis=0)


def attention():
    x = keras.Input((6, 8))
    h = layers.Add()([x, layers.GroupQueryAttention(4, 6, 3, name="attention")(x, x)])
    y = layers.Dense(8, name="out")(layers.Dense(12, "gelu", name="in")(h))
    return randomize(keras.Model(x, layers.Add()([h, y])), scale=0.4)


def values(variable):
    return ops.convert_to_numpy(variable).astype("float64")


@pytest.mark.parametrize("name", ["activation", "wanda"])
def test_scores_are_those_of_the_equation(name):
    model = attention()
    before = outputs(model, X)
    scores = getattr(criteria, name)(model, X, batch_size=8)
    assert_same(before, outputs(model, X), 0)
    # Units: the layer behind them reads what Keras gives between the two.
    units = outputs(keras.Model(model.input, model.get_layer("out").input), X)[0]
    squares = np.sum(values(model.get_layer("out").kernel) ** 2, axis=1)
    np.testing.assert_allclose(scores["in"], factor(name, units) * squares, rtol=1e-4)
    # Key-value groups: six query heads of four numbers, two heads in a group.
    layer = model.get_layer("attention")
    dense = next(s for s in tfprune.find_structures(model) if s.kind == "heads").consumers[0].layer
    seen = []
    observe(model, [X], [dense], lambda _, read: seen.append(values(read.inputs)))
    assert seen[0].shape == (20, 6, 6, 4)
    kernel = values(dense.kernel).reshape(24, 8)
    by_number = factor(name, seen[0].reshape(120, 24)) * np.sum(kernel**2, axis=1)
    np.testing.assert_allclose(scores[layer.name], by_number.reshape(3, 8).sum(axis=1), rtol=1e-4)


@pytest.mark.parametrize("name", ["activation", "wanda"])
def test_errors_of_all_consumers_and_all_calls_are_added(name):
    x = keras.Input((6, 8))
    up, down = layers.Dense(12, "relu", name="in"), layers.Dense(8, name="out")
    other = layers.Dense(8, name="other")
    first = up(x)
    second = up(layers.Add()([x, down(first), other(first)]))
    model = randomize(keras.Model(x, [down(second), other(second)]), scale=0.4)
    structures = tfprune.find_structures(model)
    assert [s.groups for s in structures] == [12] and len(structures[0].consumers) == 2
    scores = getattr(criteria, name)(model, X, structures)["in"]
    one, two = outputs(keras.Model(x, [first, second]), X)
    squares = {n: np.sum(values(model.get_layer(n).kernel) ** 2, axis=1) for n in ("out", "other")}
    expected = factor(name, np.concatenate([one, two])) * (squares["out"] + squares["other"])
    np.testing.assert_allclose(scores, expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["activation", "wanda"])
def test_padding_does_not_count(name):
    ids = keras.Input((None,), dtype="int32")
    h = layers.Embedding(9, 8, mask_zero=True)(ids)
    model = keras.Model(ids, layers.Dense(8)(layers.Dense(12, "gelu", name="in")(h)))
    randomize(model, scale=0.4)
    words = np.random.default_rng(0).integers(1, 9, (20, 6))
    padded = np.hstack([words, np.zeros((20, 30), "int64")])
    score = getattr(criteria, name)
    np.testing.assert_allclose(score(model, words)["in"], score(model, padded)["in"], rtol=1e-5)


def test_a_mean_that_is_large_beside_the_variance_takes_no_digits():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, name="in"), layers.Dense(2)])
    kernel = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1.0]])
    model.layers[0].kernel.assign(kernel)
    x = np.round(noise(64, 3) * 64) / 64 + 4096  # Exact in float32.
    scores = criteria.activation(model, x)["in"]
    squares = np.sum(values(model.layers[1].kernel) ** 2, axis=1)
    np.testing.assert_allclose(scores, (x @ kernel).var(axis=0) * squares, rtol=1e-3)


def test_masks_on_weights_count():
    model = attention()
    mask = np.arange(12) % 3 > 0
    transform_weight(model.get_layer("out"), "kernel", times(lambda training: mask[:, None]))
    scores = criteria.wanda(model, X)["in"]
    assert np.array_equal(scores > 0, mask)


def test_datasets_and_steps():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return X[10 * index : 10 * index + 10], None

    def endless():
        while True:
            yield X[:10], X[:10]

    model = attention()
    whole = criteria.activation(model, (X, None))
    half = criteria.activation(model, X[:10])
    for name in whole:
        found = criteria.activation(model, Batches())
        np.testing.assert_allclose(found[name], whole[name], rtol=1e-4)
        first = criteria.activation(model, endless(), steps=1)
        np.testing.assert_allclose(first[name], half[name], rtol=1e-5)


@pytest.mark.parametrize("name", ["activation", "wanda"])
def test_a_callback_takes_it_by_name_without_labels(name):
    model = attention()
    model.compile(keras.optimizers.SGD(0.0), "mse")
    scores = getattr(criteria, name)(model, X, batch_size=32)
    callback = ImportancePruning(
        "ffn", target=tfprune.Sparsity(0.5), criterion=name, data=X, start=0, verbose=0
    )
    model.fit(X, X, batch_size=4, verbose=0, callbacks=[callback])
    stays = tfprune.find_structures(model)["in"].norms() > 0
    assert stays.sum() == 6
    assert scores["in"][stays].min() > scores["in"][~stays].max()


@pytest.mark.parametrize(
    "data, match",
    [
        (np.full_like(X, np.nan), "not finite in front of layer"),
        ([], "batch|example"),
        (None, "`data`"),
    ],
)
def test_data_that_cannot_be_used(data, match):
    with pytest.raises(ValueError, match=match):
        criteria.activation(attention(), data)


def test_data_that_are_padding_alone():
    ids = keras.Input((None,), dtype="int32")
    h = layers.Embedding(9, 8, mask_zero=True)(ids)
    model = keras.Model(ids, layers.Dense(8)(layers.Dense(12, "gelu", name="in")(h)))
    with pytest.raises(ValueError, match="all positions are padding"):
        criteria.activation(model, np.zeros((3, 5), "int32"))


@pytest.mark.parametrize("name", ["activation", "wanda"])
def test_ranks_of_embeddings_are_refused(name):
    ids = keras.Input((None,), dtype="int32")
    h = tfprune.FactorizedEmbedding(9, 8, 4, name="embedding")(ids)
    model = keras.Model(ids, layers.Dense(8)(layers.Dense(12, "gelu", name="in")(h)))
    words = np.ones((3, 5), "int32")
    with pytest.raises(ValueError, match="`structures`.*embedding.*gradient_importance"):
        getattr(criteria, name)(model, words)
    with pytest.raises(ValueError, match="`structures`.*embedding"):
        criteria.get(name, words).check_structures(model, tfprune.find_structures(model))
    units = tfprune.find_structures(model).select("ffn")
    assert set(getattr(criteria, name)(model, words, units)) == {"in"}
