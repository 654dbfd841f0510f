import keras
import numpy as np
import pytest
from keras import layers

import tfprune
from tests.models import noise, outputs, randomize, transformer
from tfprune.criteria import attention_confidence
from tfprune.structures import Slices, Structure, register_layer_kind, registry
from tfprune.translation import student

pytestmark = pytest.mark.sampled


def by_hand(layer, query, key, visible):
    """Largest probability of each head and query `(H, T)` for one example, in NumPy."""

    def project(projection, x):
        kernel, bias = (np.asarray(w) for w in projection.get_weights())
        return np.einsum("td,dhk->htk", x, kernel) + bias[:, None, :]

    q, k = project(layer._query_dense, query), project(layer._key_dense, key)
    logits = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
    logits = np.where(visible, logits, -np.inf)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return (weights / weights.sum(-1, keepdims=True)).max(-1)


def self_attention(causal=False, **options):
    inputs = keras.Input((None, 8), name="x")
    mask = keras.Input((None,), dtype="bool", name="mask")
    layer = layers.MultiHeadAttention(3, 4, name="attention", **options)
    result = layer(inputs, inputs, attention_mask=mask[:, None, :], use_causal_mask=causal)
    return randomize(keras.Model({"x": inputs, "mask": mask}, result), scale=0.8), layer


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("options", [{}, {"dropout": 0.5}, {"flash_attention": False}])
def test_it_is_the_mean_of_the_largest_probability(causal, options):
    model, layer = self_attention(causal, **options)
    x, lengths = noise(3, 6, 8), [6, 2, 4]
    mask = np.arange(6) < np.array(lengths)[:, None]

    found = attention_confidence(model, {"x": x, "mask": mask}, batch_size=2)

    each = [
        by_hand(layer, a[:n], a[:n], np.tri(n, dtype=bool) if causal else True)
        for a, n in zip(x, lengths, strict=True)
    ]
    np.testing.assert_allclose(
        found["attention"], np.concatenate(each, axis=1).mean(axis=1), rtol=1e-5
    )
    assert found.kinds == {"attention": "decoder" if causal else "encoder"}


@pytest.mark.parametrize("decoder", ["ssru", "self_attention"])
def test_a_translator(decoder):
    model = randomize(
        student(30, 2, 2, 16, 24, num_heads=4, decoder=decoder, tied_decoder_layers=True)
    )
    source = np.array([[3, 4, 5, 6], [7, 8, 0, 0]], "int32")
    target = np.array([[1, 9, 0], [1, 0, 0]], "int32")
    weights = (target != 0).astype("float32")

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return {"source": source, "target": target}, target, weights

    found = attention_confidence(model, Batches())

    # Without padding, one sentence after the other, each in a batch of its own.
    alone = [
        attention_confidence(
            model, {"source": source[i : i + 1, :s], "target": target[i : i + 1, :t]}
        )
        for i, (s, t) in enumerate([(4, 2), (2, 1)])
    ]
    for name, scores in found.items():
        sizes = (4, 2) if name.startswith("encoder") else (2, 1)
        expected = sum(n * a[name] for n, a in zip(sizes, alone, strict=True)) / sum(sizes)
        np.testing.assert_allclose(scores, expected, rtol=1e-5, err_msg=name)
    kinds = {"encoder_0_attention": "encoder", "encoder_1_attention": "encoder"}
    if decoder == "self_attention":
        kinds["decoder_0_attention"] = "decoder"
    assert found.kinds == {**kinds, "decoder_0_cross_attention": "context"}


def test_positions_that_self_attention_of_the_decoder_masks_do_not_count_in_its_context():
    target, source = keras.Input((None, 8), name="target"), keras.Input((None, 8), name="source")
    mask = keras.Input((None,), dtype="bool", name="mask")
    y = layers.MultiHeadAttention(2, 4, name="own")(
        target, target, attention_mask=mask[:, None, :], use_causal_mask=True
    )
    cross = layers.MultiHeadAttention(2, 4, name="cross")
    model = keras.Model({"target": target, "source": source, "mask": mask}, cross(y, source))
    randomize(model)
    x = {"target": noise(1, 5, 8), "source": noise(1, 7, 8, seed=2)}

    padded = attention_confidence(model, {**x, "mask": np.array([[True] * 3 + [False] * 2])})

    cut = {"target": x["target"][:, :3], "source": x["source"], "mask": np.ones((1, 3), bool)}
    np.testing.assert_allclose(
        padded["cross"], attention_confidence(model, cut)["cross"], rtol=1e-5
    )


def test_a_mask_of_keras_counts():
    inputs = keras.Input((None,), dtype="int32")
    x = layers.Embedding(9, 8, mask_zero=True)(inputs)
    model = keras.Model(inputs, layers.MultiHeadAttention(2, 4, name="attention")(x, x))
    randomize(model)

    padded = attention_confidence(model, np.array([[3, 4, 5, 0, 0]]))

    whole = attention_confidence(model, np.array([[3, 4, 5]]))
    np.testing.assert_allclose(padded["attention"], whole["attention"], rtol=1e-5)


def test_query_heads_that_share_a_key_count_as_one_group():
    inputs = keras.Input((5, 8))
    layer = layers.GroupQueryAttention(4, 4, 2, name="attention")
    model = randomize(keras.Model(inputs, layer(inputs, inputs)))
    x = noise(6, 5, 8)

    found = attention_confidence(model, x)

    _, probabilities = layer(x, x, return_attention_scores=True)
    expected = keras.ops.convert_to_numpy(probabilities).max(-1).mean((0, 2))
    np.testing.assert_allclose(found["attention"], expected, rtol=1e-5)
    structure = tfprune.find_structures(model)[0]
    np.testing.assert_allclose(found(structure), expected.reshape(2, 2).mean(1), rtol=1e-5)


def test_images_have_two_axes_of_positions():
    inputs = keras.Input((2, 3, 8))
    layer = layers.MultiHeadAttention(2, 4, attention_axes=(1, 2), name="attention")
    model = randomize(keras.Model(inputs, layer(inputs, inputs)))
    x = noise(4, 2, 3, 8)

    _, probabilities = layer(x, x, return_attention_scores=True)

    expected = keras.ops.convert_to_numpy(probabilities).max((-1, -2)).mean((0, 2, 3))
    np.testing.assert_allclose(attention_confidence(model, x)["attention"], expected, rtol=1e-5)


def test_layers_of_keras_hub():
    keras_hub = pytest.importorskip("keras_hub")
    bert = keras_hub.models.BertBackbone(20, 2, 4, 16, 32, max_sequence_length=8)
    randomize(bert)
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], "int32")
    x = {"token_ids": np.full((2, 5), 7), "segment_ids": np.zeros((2, 5)), "padding_mask": mask}
    x = {name: value.astype("int32") for name, value in x.items()}

    found = attention_confidence(bert, x)

    structures = [s for s in tfprune.find_structures(bert) if s.kind == "heads"]
    assert [found(s).shape for s in structures] == [(4,), (4,)]
    assert set(found.kinds.values()) == {"encoder"}
    cut = [
        attention_confidence(bert, {k: v[i : i + 1, :n] for k, v in x.items()})
        for i, n in enumerate((3, 5))
    ]
    for name, scores in found.items():
        expected = (3 * cut[0][name] + 5 * cut[1][name]) / 8
        np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_attention_of_another_kind_is_watched_if_it_has_a_softmax():
    keras_hub = pytest.importorskip("keras_hub")
    llama = keras_hub.models.LlamaBackbone(20, 1, 4, 16, 32, 2)
    x = {"token_ids": np.ones((2, 5), "int32"), "padding_mask": np.ones((2, 5), "int32")}

    found = attention_confidence(llama, x)

    (scores,) = found.values()
    # All tokens are the same, so a position sees as many alike as it may look at.
    np.testing.assert_allclose(scores, np.mean([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]), rtol=0.02)
    assert set(found.kinds.values()) == {"decoder"}


def test_the_model_is_not_changed():
    model = randomize(transformer())
    x = noise(4, 5, 8)
    before, weights = outputs(model, x), [np.array(w) for w in model.get_weights()]
    state = {id(layer): dict(vars(layer)) for layer in model._flatten_layers()}

    attention_confidence(model, x)

    for layer in model._flatten_layers():
        assert vars(layer).keys() == state[id(layer)].keys()
    for a, b in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(before[0], outputs(model, x)[0])


def test_a_failing_model_is_not_changed_either():
    model = transformer()

    with pytest.raises(Exception, match="."):
        attention_confidence(model, noise(4, 5, 7))

    assert "_masked_softmax" not in vars(model.get_layer("attention"))


def test_batches_of_several_lengths():
    model = randomize(transformer())
    long, short = noise(2, 6, 8), noise(3, 2, 8)

    batches = ((x, None) for x in (long, short))
    found = attention_confidence(model, batches, steps=2)["attention"]

    a, b = (attention_confidence(model, x)["attention"] for x in (long, short))
    np.testing.assert_allclose(found, (12 * a + 6 * b) / 18, rtol=1e-5)
    first = attention_confidence(model, ((x, None) for x in (long, short)), steps=1)["attention"]
    np.testing.assert_allclose(first, a, rtol=1e-5)


def test_what_cannot_be_is_said():
    dense = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    with pytest.raises(ValueError, match="without any|no attention"):
        attention_confidence(dense, noise(2, 4))
    with pytest.raises(ValueError, match="at least one batch"):
        attention_confidence(transformer(), iter(()), steps=1)
    model = transformer()
    found = attention_confidence(model, noise(2, 5, 8))
    ffn = next(s for s in tfprune.find_structures(model) if s.kind == "ffn")
    with pytest.raises(ValueError, match="not an attention layer"):
        found(ffn)
    assert str(found).startswith("attention (encoder): 0.")


def test_heads_of_a_registered_kind_without_a_softmax_are_skipped(monkeypatch):
    monkeypatch.setattr(registry, "_LAYER_KINDS", dict(registry._LAYER_KINDS))

    class Mixer(layers.Layer):
        def build(self, shape):
            self.kernel_in = self.add_weight((shape[-1], 4))
            self.kernel_out = self.add_weight((4, shape[-1]))

        def call(self, x):
            return x @ self.kernel_in @ self.kernel_out

    class Heads(Structure):
        kind = "heads"

    @register_layer_kind(Mixer)
    def describe(layer, name):
        slices = (
            Slices(layer, "kernel_in", 1, "producer"),
            Slices(layer, "kernel_out", 0, "consumer"),
        )
        return Heads(name, 2, slices)

    inputs = keras.Input((5, 8))
    attended = layers.MultiHeadAttention(2, 4, name="attention")(inputs, inputs)
    model = keras.Model(inputs, Mixer(name="mixer")(attended))

    found = attention_confidence(model, noise(3, 5, 8))

    assert list(found) == ["attention"]
    assert found.skipped == {"mixer": "Mixer has no softmax that can be read"}
