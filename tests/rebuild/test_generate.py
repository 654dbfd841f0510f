"""KerasHub's `generate()` with its cache of keys and values, after heads have gone."""

import keras
import numpy as np
import pytest
from keras import ops

from tests.models import randomize
from tfprune.rebuild import rebuild
from tfprune.rebuild.caches import take_wider_caches
from tfprune.structures import find_structures

hub = pytest.importorskip("keras_hub")

PROMPT = [3, 4, 5]
LENGTH = 7


def gpt2():
    backbone = hub.models.GPT2Backbone(50, 2, 4, 16, 32, max_sequence_length=8)
    return randomize(hub.models.GPT2CausalLM(backbone=backbone, preprocessor=None), scale=0.3)


def with_the_cache(model):
    model.compile(sampler="greedy")
    ids = np.array([PROMPT + [0] * (LENGTH - len(PROMPT))], "int32")
    mask = (ids > 0).astype("int32")
    prompt = {"token_ids": ids, "padding_mask": mask}
    return list(np.asarray(model.generate(prompt, stop_token_ids=None)["token_ids"])[0])


def without(model):
    ids = list(PROMPT)
    while len(ids) < LENGTH:
        full = np.array([ids + [0] * (LENGTH - len(ids))], "int32")
        logits = model({"token_ids": full, "padding_mask": (full > 0).astype("int32")})
        ids.append(int(ops.convert_to_numpy(logits)[0, len(ids) - 1].argmax()))
    return ids


@pytest.mark.slow
@pytest.mark.one_backend
@pytest.mark.parametrize("in_place", [False, True])
def test_text_is_the_same_with_and_without_the_cache(in_place, tmp_path):
    model = gpt2()
    assert with_the_cache(model) == without(model)
    heads = find_structures(model).select(["heads"])
    # Layers with different numbers of heads, of which not the first ones stay.
    keep = {s.name: np.arange(4) > 2 - i for i, s in enumerate(heads)}
    small = rebuild(model, keep=keep, in_place=in_place)
    assert with_the_cache(small) == without(small)
    again = rebuild(small, keep={heads[1].name: np.arange(2) < 1}, in_place=in_place)
    assert with_the_cache(again) == without(again)
    if not in_place:
        again.save(tmp_path / "small.keras")
        loaded = keras.saving.load_model(tmp_path / "small.keras")
        assert with_the_cache(loaded) == without(again)


@pytest.mark.parametrize("update", [None, 1])
def test_a_wider_cache_keeps_what_is_not_the_layers(update):
    layer = hub.layers.CachedMultiHeadAttention(2, 4)
    x = np.random.default_rng(0).normal(size=(1, 1, 8)).astype("float32")
    layer.build((1, 1, 8), (1, 1, 8))
    draw = np.random.default_rng(1)
    wide = draw.normal(size=(1, 2, 3, 5, 4)).astype("float32")
    given = {} if update is None else {"cache_update_index": update}
    want, narrow = layer(x, x, cache=wide[..., :2, :], **given)
    take_wider_caches(layer, 2)
    got, cache = layer(x, x, cache=wide, **given)
    np.testing.assert_allclose(ops.convert_to_numpy(got), ops.convert_to_numpy(want), atol=1e-6)
    cache = ops.convert_to_numpy(cache)
    np.testing.assert_array_equal(cache[..., :2, :], ops.convert_to_numpy(narrow))
    np.testing.assert_array_equal(cache[..., 2:, :], wide[..., 2:, :])
    assert layer(x, x).shape == want.shape


def test_layers_without_a_cache_are_left_alone():
    layer = keras.layers.MultiHeadAttention(2, 4)
    take_wider_caches(layer, 2)
    assert "call" not in vars(layer)
