"""A rebuilt model is compared with the masked one before it is handed out."""

import keras
import numpy as np
import pytest
from keras import layers

from tests.models import assert_same, kill, noise, outputs, randomize, transformer
from tests.rebuild.test_in_place import subclassed
from tfprune.rebuild import rebuild
from tfprune.rebuild.self_check import SelfCheck
from tfprune.rebuild.values import PlannedValues
from tfprune.structures import find_structures

pytestmark = pytest.mark.sampled


def pruned(make=transformer):
    model = randomize(make())
    kill(model, lambda s: np.arange(s.groups) % 2 == 0)
    return model


@pytest.fixture
def wrong(monkeypatch):
    """A plan that gives a weight another value."""
    plain = PlannedValues.value

    def value(self, variable):
        found = plain(self, variable)
        return found * 1.1 if found.ndim == 1 and np.any(found) else found

    monkeypatch.setattr(PlannedValues, "value", value)


@pytest.mark.parametrize("in_place", [False, True])
def test_a_wrong_cut_is_dropped(in_place, wrong):
    model = pruned(subclassed if in_place else transformer)
    x = noise(2, 5, 16 if in_place else 8)
    want, before = outputs(model, x), model.count_params()
    with pytest.raises(RuntimeError, match=r"differs from the masked model's by .* report it"):
        rebuild(model, in_place=in_place)
    assert model.count_params() == before
    assert_same(want, outputs(model, x), 1e-7)
    assert rebuild(model, in_place=in_place, check=False).count_params() < before


def test_keep_is_compared_with_the_model_without_these_groups():
    model = randomize(transformer())
    before = model.get_weights()
    keep = {"ffn_in": np.arange(12) < 5, "attention": np.array([False, True])}
    small = rebuild(model, keep=keep)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    check = SelfCheck(model, find_structures(model), keep)
    assert check.is_possible
    check.check(small)
    with pytest.raises(RuntimeError, match="differs"):
        check.check(rebuild(model, keep={"ffn_in": np.arange(12) < 4}, check=False))


class Noisy(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed = keras.random.SeedGenerator(0)

    def call(self, x):
        return x + keras.random.normal((1, 4), seed=self.seed)


def text_model():
    text = keras.Input((1,), dtype="string")
    table = layers.StringLookup(vocabulary=["a"], output_mode="one_hot")
    return keras.Model(text, layers.Dense(3)(layers.Dense(4, "relu")(table(text))))


def tokens(longest):
    ids = keras.Input((longest,), dtype="int32")
    h = layers.Embedding(2, 4)(ids) + layers.Embedding(8, 4)(keras.ops.arange(8))[None]
    return keras.Model(ids, layers.Dense(3)(layers.Dense(6, "relu")(h)))


@pytest.mark.parametrize(
    "make, possible",
    [
        (transformer, True),
        (subclassed, True),
        (lambda: tokens(8), True),
        pytest.param(text_model, False, marks=pytest.mark.tensorflow_only),
        (lambda: keras.Sequential([keras.Input((4,)), Noisy(), layers.Dense(2)]), False),
    ],
)
def test_where_inputs_can_be_made_up(make, possible):
    model = make()
    before = [keras.ops.convert_to_numpy(v) for v in model.variables]
    assert SelfCheck(model, find_structures(model)).is_possible == possible
    for a, b in zip(before, model.variables, strict=True):  # States of random generators too.
        np.testing.assert_array_equal(a, keras.ops.convert_to_numpy(b))
    rebuild(model, in_place=make is subclassed)


def test_masks_and_several_inputs_and_outputs():
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = keras.Input((None, 8), name="x")
    h = layers.Embedding(9, 8, mask_zero=True)(ids) + x
    h = h + layers.MultiHeadAttention(2, 4)(h, h)
    model = randomize(keras.Model({"ids": ids, "x": x}, {"a": layers.Dense(2)(h), "b": h > 0}))
    kill(model, lambda s: np.arange(s.groups) % 2 == 0)
    assert SelfCheck(model, find_structures(model)).is_possible
    rebuild(model)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float64"])
def test_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = pruned()
        assert SelfCheck(model, find_structures(model)).is_possible
        rebuild(model)
    finally:
        keras.config.set_dtype_policy("float32")
