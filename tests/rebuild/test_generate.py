"""KerasHub's `generate()` with its cache of keys and values, after heads or units have gone."""

import keras
import numpy as np
import pytest
from keras import ops

from tests.models import randomize
from tfprune.rebuild import rebuild
from tfprune.rebuild.caches import take_wider_caches
from tfprune.structures import find_structures

pytestmark = pytest.mark.sampled

hub = pytest.importorskip("keras_hub")

PROMPT = [3, 4, 5]
LENGTH = 7
SIZES = {"vocabulary_size": 50, "num_layers": 2, "hidden_dim": 16, "intermediate_dim": 32}
ENCODED = np.array([[7, 8, 9, 10, 11, 0]], "int32")


def gpt2():
    backbone = hub.models.GPT2Backbone(**SIZES, num_heads=4, max_sequence_length=8)
    return randomize(hub.models.GPT2CausalLM(backbone=backbone, preprocessor=None), scale=0.3)


def bart():
    """Two caches in each layer, of which that over the encoder's sequence is made only once."""
    backbone = hub.models.BartBackbone(**SIZES, num_heads=4, max_sequence_length=8)
    model = hub.models.BartSeq2SeqLM(backbone=backbone, preprocessor=None)
    randomize(model, seed=1, scale=0.6)
    for variable in model.trainable_variables:
        if variable.name == "beta":  # Else one token is the likeliest everywhere.
            variable.assign(np.zeros(variable.shape))
    return model


def llama():
    backbone = hub.models.LlamaBackbone(**SIZES, num_query_heads=4, num_key_value_heads=2)
    return randomize(hub.models.LlamaCausalLM(backbone=backbone, preprocessor=None), scale=0.3)


def tied_llama():
    backbone = hub.models.Llama3Backbone(
        **SIZES, num_query_heads=4, num_key_value_heads=2, tie_word_embeddings=True
    )
    return randomize(hub.models.Llama3CausalLM(backbone=backbone, preprocessor=None), scale=0.3)


def gemma():
    backbone = hub.models.GemmaBackbone(
        **SIZES, num_query_heads=4, num_key_value_heads=2, head_dim=4
    )
    return randomize(hub.models.GemmaCausalLM(backbone=backbone, preprocessor=None), scale=1.0)


def given(model, ids):
    """The inputs of a model for the first tokens of a text."""
    ids = np.array([ids + [0] * (LENGTH - len(ids))], "int32")
    mask = (ids > 0).astype("int32")
    if not isinstance(model, hub.models.Seq2SeqLM):
        return {"token_ids": ids, "padding_mask": mask}
    return {
        "encoder_token_ids": ENCODED,
        "encoder_padding_mask": (ENCODED > 0).astype("int32"),
        "decoder_token_ids": ids,
        "decoder_padding_mask": mask,
    }


def with_the_cache(model):
    model.compile(sampler="greedy")
    made = model.generate(given(model, PROMPT), stop_token_ids=None)
    name = "decoder_token_ids" if isinstance(model, hub.models.Seq2SeqLM) else "token_ids"
    return np.asarray(made[name])[0].tolist()


def without(model):
    ids = list(PROMPT)
    while len(ids) < LENGTH:
        logits = model(given(model, ids))
        ids.append(int(ops.convert_to_numpy(logits)[0, len(ids) - 1].argmax()))
    return ids


@pytest.mark.slow
@pytest.mark.sampled
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("make", [gpt2, bart])
def test_text_is_the_same_with_and_without_the_cache(make, in_place, tmp_path):
    model = make()
    assert with_the_cache(model) == without(model)
    heads = find_structures(model).select(["heads"])
    # Layers with different numbers of heads, of which not the first ones stay.
    keep = {s.name: np.arange(4) > 2 - i % 4 for i, s in enumerate(heads)}
    small = rebuild(model, keep=keep, in_place=in_place)
    assert with_the_cache(small) == without(small)
    again = rebuild(small, keep={heads[1].name: np.arange(2) < 1}, in_place=in_place)
    assert with_the_cache(again) == without(again)
    if not in_place:
        again.save(tmp_path / "small.keras")
        loaded = keras.saving.load_model(tmp_path / "small.keras")
        assert with_the_cache(loaded) == without(again)


@pytest.mark.sampled
@pytest.mark.parametrize("make", [llama, gemma])
@pytest.mark.parametrize("kind", ["ffn", "heads"])
def test_text_is_the_same_after_groups_have_gone(make, kind):
    model = make()
    found = find_structures(model).select([kind])
    assert len(found) == SIZES["num_layers"]
    # Of the heads, different ones in each layer.
    keep = {s.name: np.arange(s.groups) % 3 == 1 - i for i, s in enumerate(found)}
    small = rebuild(model, keep=keep)
    assert small.count_params() < model.count_params()
    text = with_the_cache(small)
    assert text == without(small) and len(set(text[len(PROMPT) :])) > 1


def decoded_step_by_step(model, ids):
    """Logits `(tokens, vocabulary)` of an encoder-decoder with both of its caches."""
    inputs = given(model, [])
    encoded = model.call_encoder(inputs["encoder_token_ids"], inputs["encoder_padding_mask"])
    layers, width = SIZES["num_layers"], SIZES["hidden_dim"] // 4
    own, across = (np.zeros((1, layers, 2, n, 4, width), "float32") for n in (LENGTH, 6))
    logits = []
    for i, token in enumerate(ids):
        step, _, own, across = model.call_decoder_with_cache(
            encoded,
            inputs["encoder_padding_mask"],
            np.array([[token]]),
            self_attention_cache=own,
            self_attention_cache_update_index=i,
            cross_attention_cache=across,
            cross_attention_cache_update_index=None if i else 0,
        )
        logits.append(ops.convert_to_numpy(step)[0, 0])
    return np.stack(logits)


@pytest.mark.tensorflow_only  # On JAX KerasHub's methods run in compiled functions alone.
@pytest.mark.parametrize("left", [3, 1, 0])
def test_logits_of_an_encoder_decoder_are_the_same_step_by_step(left):
    model = bart()
    heads = find_structures(model).select(["heads"])
    # One attention of each sort: in the encoder, in the decoder, from one to the other.
    keep = {s.name: np.arange(4) >= 4 - left for i, s in enumerate(heads) if i in (0, 2, 5)}
    small = rebuild(model, keep=keep)
    ids = [3, 4, 5, 6, 40, 12, 7]
    want = ops.convert_to_numpy(small(given(small, ids)))[0]
    np.testing.assert_allclose(decoded_step_by_step(small, ids), want, rtol=1e-4, atol=1e-4)


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
