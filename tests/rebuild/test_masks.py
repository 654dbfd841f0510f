"""Rebuilding where Keras's masks decide what a layer computes."""

import keras
import numpy as np
import pytest
from keras import layers

from tests.models import assert_same, kill, noise, outputs, randomize
from tfprune.embeddings.factorized_embedding import FactorizedEmbedding
from tfprune.keras_private.functional import nodes_of
from tfprune.rebuild import rebuild
from tfprune.structures import find_structures
from tfprune.wrappers import MaskedGroups

# Keras on JAX keeps the masks of eager arrays by their `id`, which may be taken by another array.
pytestmark = [pytest.mark.sampled, pytest.mark.tensorflow_only]

IDS = np.array([[3, 0, 5, 0, 0], [1, 2, 0, 4, 6]])


def test_an_attention_layer_that_is_gone_took_a_mask_off_its_input():
    # With the first attention the residual has no mask, so the second one sees every position.
    ids = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 8, mask_zero=True)(ids)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4, name="first")(x, x)])
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4, name="second")(x, x)])
    model = randomize(keras.Model(ids, x))
    kill(model, {"first": np.ones(2, bool), "second": np.array([True, False])})
    small = rebuild(model)
    assert find_structures(small)["second"].groups == 1
    assert_same(outputs(model, IDS), outputs(small, IDS))


def test_without_other_readers_of_the_mask_an_attention_layer_goes():
    ids = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 8, mask_zero=True)(ids)
    y = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    model = randomize(keras.Model(ids, layers.Dense(3)(y)))
    kill(model, {"attention": np.ones(2, bool)})
    small = rebuild(model)
    assert not any(isinstance(x, layers.MultiHeadAttention) for x in small.layers)
    assert_same(outputs(model, IDS), outputs(small, IDS))


def test_masks_are_compared_where_calls_are_no_longer_made():
    # All attention over `source` is constant, so `embedding` is called once instead of twice. The
    # layer in the wrapper is not what is called in the model, its copy is.
    source, target = (keras.Input((5,), dtype="int32") for _ in range(2))
    embedding = layers.Embedding(9, 8, name="embedding")
    x, memory = embedding(target), embedding(source)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4, name="cross")(x, memory)])
    wrapped = MaskedGroups(layers.Dense(12, "relu", name="units"))(x)
    model = randomize(keras.Model([source, target], layers.Dense(3)(wrapped)))
    kill(model, {"cross": np.ones(2, bool)})
    small = rebuild(model)
    assert not any(isinstance(x, layers.MultiHeadAttention) for x in small.layers)
    called = [node.operation.name for node in nodes_of(small)]
    assert called.count("embedding") == 1
    assert_same(outputs(model, [IDS, IDS[::-1]]), outputs(small, [IDS, IDS[::-1]]))


def test_groups_that_must_not_go_are_zero():
    # As above, but the heads are named, and their weights are not zero.
    ids = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 8, mask_zero=True)(ids)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4, name="first")(x, x)])
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4, name="second")(x, x)])
    model = randomize(keras.Model(ids, x))
    small = rebuild(model, keep={"first": np.zeros(2, bool)})
    kill(model, {"first": np.ones(2, bool)})
    assert_same(outputs(model, IDS), outputs(small, IDS))


@pytest.mark.parametrize("merge", [layers.Multiply, layers.Maximum, layers.Minimum])
def test_merges_that_look_at_masks(merge):
    ids = keras.Input((5,), dtype="int32")
    gate = layers.Dense(6, "relu", name="gate")(layers.Embedding(9, 4, mask_zero=True)(ids))
    merged = merge()([gate, layers.Dense(6)(layers.Embedding(9, 4)(ids))])
    model = randomize(keras.Model(ids, layers.Dense(3)(merged)))
    kill(model, {"gate": np.arange(6) < 3}, producers_only=True)
    assert_same(outputs(model, IDS), outputs(rebuild(model), IDS))


class Embedded(layers.Layer):
    """Made of an embedding, whose mask is on what it returns."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Embedding(9, 4, mask_zero=True)

    def build(self, shape):
        self.inner.build(shape)

    def call(self, ids):
        return self.inner(ids)

    def compute_output_shape(self, shape):
        return (*shape, 4)


class MaskedByItself(layers.Layer):
    """Makes a mask with `compute_mask` while it is run, and not for symbolic tensors."""

    def call(self, x):
        return x + 0.0

    def compute_mask(self, x, previous_mask=None):
        return None if isinstance(x, keras.KerasTensor) else keras.ops.any(x > 0, axis=-1)


def in_a_model(ids):
    inputs = keras.Input((5,), dtype="int32")
    return keras.Model(inputs, layers.Embedding(9, 4, mask_zero=True)(inputs))(ids)


def there_and_back(ids):
    # In reverse the same layer makes no mask.
    embedding = layers.ReversibleEmbedding(9, 4, mask_zero=True)
    embedding(embedding(ids), reverse=True)
    return embedding(ids)


EMBEDDED = {
    "reversible": lambda ids: layers.ReversibleEmbedding(9, 4, mask_zero=True)(ids),
    "there and back": there_and_back,
    "factorized": lambda ids: FactorizedEmbedding(9, 4, 2, mask_zero=True)(ids),
    "masking": lambda ids: layers.Masking()(layers.Embedding(9, 4)(ids)),
    "layer of layers": lambda ids: Embedded()(ids),
    "model in a model": in_a_model,
    "sequential": lambda ids: keras.Sequential([layers.Embedding(9, 4, mask_zero=True)])(ids),
    "its own": lambda ids: MaskedByItself()(layers.Embedding(9, 4)(ids)),
}


@pytest.mark.parametrize("embedded", EMBEDDED)
def test_merges_behind_whatever_makes_a_mask(embedded):
    ids = keras.Input((5,), dtype="int32")
    x = EMBEDDED[embedded](ids)
    y = layers.Multiply()([layers.Dense(3, "sigmoid", name="gate")(x), layers.Dense(3)(x)])
    model = randomize(keras.Model(ids, layers.Dense(2)(y)))
    if embedded == "masking":
        table = model.get_layer(index=1).embeddings
        table.assign(np.array(table) * (np.arange(9) > 0)[:, None])
    kill(model, {"gate": np.array([True, True, False])}, producers_only=True)
    expected = outputs(model, IDS)
    # Without its own bias a padded position would emit the same as the rest.
    assert not np.allclose(expected[0][0, 1], expected[0][0, 2])
    assert_same(expected, outputs(rebuild(model), IDS))


@pytest.mark.parametrize("embedded", EMBEDDED)
def test_attention_behind_whatever_makes_a_mask(embedded):
    ids = keras.Input((5,), dtype="int32")
    x = EMBEDDED[embedded](ids)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4, name="first")(x, x)])
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4, name="second")(x, x)])
    model = randomize(keras.Model(ids, x))
    kill(model, {"first": np.ones(2, bool), "second": np.array([True, False])})
    assert_same(outputs(model, IDS), outputs(rebuild(model), IDS))
    kill(model, {"second": np.ones(2, bool)}, producers_only=True)
    assert_same(outputs(model, IDS), outputs(rebuild(model), IDS))


@pytest.mark.parametrize("attention", [layers.MultiHeadAttention, layers.GroupQueryAttention])
def test_a_row_that_may_attend_to_nothing(attention):
    # With dropout Keras's softmax makes it zero: the value bias of a head does not come through.
    x, mask = keras.Input((4, 6)), keras.Input((4, 4), dtype="bool")
    sizes = (2, 3) if attention is layers.MultiHeadAttention else (3, 4, 2)
    y = attention(*sizes, dropout=0.1, name="heads")(x, x, attention_mask=mask)
    model = randomize(keras.Model([x, mask], y))
    kill(model, {"heads": np.array([True, False])}, producers_only=True)
    given = [noise(2, 4, 6), np.zeros((2, 4, 4), bool)]
    assert_same(outputs(model, given), outputs(rebuild(model), given))


@keras.saving.register_keras_serializable("tests.masks")
class AddIfGiven(layers.Layer):
    """Returns its input itself, mask and all, where there is nothing to add."""

    def call(self, x, other=None):
        return x if other is None else x + other

    def compute_output_shape(self, x_shape, other_shape=None):
        return x_shape


def gated(width=4):
    """A model whose `Multiply` looks at masks, for use inside another one."""
    x = keras.Input((5, width))
    merged = layers.Multiply()([layers.Dense(6, "sigmoid")(x), layers.Dense(6, "softplus")(x)])
    return keras.Model(x, layers.Dense(width)(merged), name="inside")


@pytest.mark.parametrize("kind", ["plain", "optional", "sequential"])
def test_a_model_inside_another_under_a_mask(kind):
    ids = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True)(ids)
    inside, inputs, given = gated(), [ids], [IDS]
    if kind == "optional":
        other = keras.Input((5, 4), optional=True)
        x = AddIfGiven()(x, other)
        inputs, given = [ids, other], [IDS, None]
    elif kind == "sequential":
        inside = keras.Sequential([keras.Input((5, 4)), inside, layers.Dense(4)])
    model = randomize(keras.Model(inputs, layers.Dense(3)(inside(x))))
    for structure in find_structures(model):
        kill(model, {structure.name: np.arange(structure.groups) < 2}, producers_only=True)
    given = given if len(given) > 1 else given[0]
    assert_same(outputs(model, given), outputs(rebuild(model), given))


def test_a_mask_that_is_given_to_a_model_by_name():
    x, present = keras.Input((5, 4)), keras.Input((5,), dtype="bool")
    first = keras.Sequential([keras.Input((5, 4)), layers.Dense(4)])
    model = randomize(keras.Model([x, present], gated()(first(x, mask=present))))
    for structure in find_structures(model):
        kill(model, {structure.name: np.arange(structure.groups) < 2}, producers_only=True)
    given = [noise(2, 5, 4), np.arange(5) < [[3], [5]]]
    assert_same(outputs(model, given), outputs(rebuild(model), given))


@pytest.mark.parametrize("in_place", [False, True])
def test_a_layer_that_ends_a_mask_still_ends_it_when_its_units_are_gone(in_place):
    # `EinsumDense` does not support masks: as a query, its positions attend as if all were there.
    x, present, other = keras.Input((5, 4)), keras.Input((5,), dtype="bool"), keras.Input((5, 4))
    units = layers.EinsumDense("abc,cd->abd", (None, 6), bias_axes="d", name="units")
    first = keras.Sequential([keras.Input((5, 4)), units, layers.Dense(4)], name="first")
    attention = layers.MultiHeadAttention(1, 4)(first(x, mask=present), other)
    model = randomize(keras.Model([x, present, other], attention))
    kill(model, {"first/units": np.ones(6, bool)})
    given = [noise(2, 5, 4), np.arange(5) < [[3], [5]], noise(2, 5, 4, seed=1)]
    expected = outputs(model, given)
    assert_same(expected, outputs(rebuild(model, in_place=in_place), given))


@pytest.mark.parametrize("there", [False, True])
def test_attention_that_is_gone_where_an_input_is_left_out(there):
    # Where the other input is there, the mask of the first ends at the addition.
    x, other = keras.Input((5, 4)), keras.Input((5, 4), optional=True)
    y = AddIfGiven()(layers.Masking()(x), other)
    y = layers.Add()([y, layers.MultiHeadAttention(1, 4, name="heads", use_bias=False)(y, y)])
    model = keras.Model([x, other], layers.GlobalAveragePooling1D()(layers.Dense(4)(y)))
    kill(randomize(model), {"heads": np.ones(1, bool)})
    given = [noise(2, 5, 4) * (np.arange(5) < 3)[:, None], noise(2, 5, 4) if there else None]
    assert_same(outputs(model, given), outputs(rebuild(model, check=False), given))


@keras.saving.register_keras_serializable("tests.masks")
class Masked(keras.Model):
    """A subclassed model, which is traced without knowing that it takes ids."""

    def __init__(self, kind, **kwargs):
        super().__init__(**kwargs)
        self.kind = kind
        options = {"rank": 3} if kind is FactorizedEmbedding else {}
        self.embedding = kind(9, 4, mask_zero=True, **options)
        self.one, self.other = layers.Dense(6, "sigmoid"), layers.Dense(6, "softplus")
        self.merge, self.out = layers.Multiply(), layers.Dense(3)

    def call(self, ids):
        x = self.embedding(ids)
        return self.out(self.merge([self.one(x), self.other(x)]))

    def get_config(self):
        return {**super().get_config(), "kind": self.kind}


@pytest.mark.parametrize(
    "kind", [layers.Embedding, layers.ReversibleEmbedding, FactorizedEmbedding]
)
def test_a_subclassed_model_that_takes_ids(kind):
    model = Masked(kind)
    model(IDS)
    randomize(model)
    (structure,) = find_structures(model).select(["ffn"])
    kill(model, {structure.name: np.arange(6) < 3}, producers_only=True)
    small = rebuild(model, in_place=True, check=False)
    fresh = Masked(kind)
    fresh(IDS)
    randomize(fresh)
    (same,) = find_structures(fresh).select(["ffn"])
    kill(fresh, {same.name: np.arange(6) < 3}, producers_only=True)
    assert_same(outputs(fresh, IDS), outputs(small, IDS))
