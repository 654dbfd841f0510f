"""Pre-norm and post-norm students: their equations, in NumPy, and what pruning makes of them."""

import warnings

import keras
import numpy as np
import pytest

from tests.models import assert_same, kill, randomize
from tfprune.rebuild import rebuild
from tfprune.structures import find_structures
from tfprune.translation import (
    Translator,
    Vocabulary,
    export_translator,
    load_translator,
    student,
)

pytestmark = pytest.mark.sampled

SOURCE = np.array([[4, 9, 30, 2], [7, 2, 0, 0]], "int32")
TARGET = np.array([[1, 11, 12, 25, 13], [1, 30, 12, 15, 9]], "int32")


def small(normalization, decoder="ssru", tied=False, vocabulary_size=31):
    return student(
        vocabulary_size,
        encoder_layers=2,
        decoder_layers=2,
        model_dim=8,
        feed_forward_dim=12,
        num_heads=2,
        decoder=decoder,
        tied_decoder_layers=tied,
        normalization=normalization,
        max_length=16,
    )


def logits(model):
    return keras.ops.convert_to_numpy(model({"source": SOURCE, "target": TARGET}))


class Reference:
    """A student in NumPy, with the weights of one in Keras."""

    def __init__(self, model, normalization, decoder, tied):
        self.weights = {
            layer.name: [keras.ops.convert_to_numpy(w) for w in layer.weights]
            for layer in model.layers
        }
        self.normalization, self.decoder, self.tied = normalization, decoder, tied

    def logits(self):
        pad = (SOURCE == 0)[:, None, None, :]
        x = self.embedded(SOURCE)
        for i in range(2):
            name = f"encoder_{i}_attention"
            x = self.residual(name, x, lambda z, name=name: self.attention(name, z, z, pad))
            x = self.residual(f"encoder_{i}_ffn", x)
        memory = self.end("encoder_norm", x)
        y = self.embedded(TARGET)
        later = np.triu(np.ones((5, 5), bool), 1)[None, None]
        for i in (0, 0) if self.tied else (0, 1):
            if self.decoder == "ssru":
                y = self.residual(f"decoder_{i}_ssru", y)
            else:
                name = f"decoder_{i}_attention"
                y = self.residual(name, y, lambda z, name=name: self.attention(name, z, z, later))
            name = f"decoder_{i}_cross_attention"
            y = self.residual(name, y, lambda z, name=name: self.attention(name, z, memory, pad))
            y = self.residual(f"decoder_{i}_ffn", y)
        return self.end("decoder_norm", y) @ self.weights["embedding"][0].T

    def residual(self, name, x, compute=None):
        compute = compute or (self.ssru if name.endswith("ssru") else self.feed_forward)
        if compute in (self.ssru, self.feed_forward):
            function, compute = compute, lambda z: function(name, z)
        if self.normalization == "post":
            return self.norm(f"{name}_norm", x + compute(x))
        return x + compute(self.norm(f"{name}_norm", x))

    def end(self, name, x):
        return x if self.normalization == "post" else self.norm(name, x)

    def norm(self, name, x):
        gamma, beta = self.weights[name]
        x = x - x.mean(-1, keepdims=True)
        return gamma * x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) + beta

    def embedded(self, ids):
        angles = np.arange(ids.shape[1])[:, None] / 10_000 ** (np.arange(0, 8, 2) / 8)
        positions = np.concatenate([np.sin(angles), np.cos(angles)], -1)
        return self.weights["embedding"][0][ids] * np.sqrt(8) + positions

    def attention(self, name, x, memory, hidden):
        wq, bq, wk, bk, wv, bv, wo, bo = self.weights[name]
        q, k, v = (
            np.einsum("btd,dhk->bhtk", z, w) + b[:, None]
            for z, w, b in ((x, wq, bq), (memory, wk, bk), (memory, wv, bv))
        )
        scores = np.where(hidden, -1e9, q @ k.swapaxes(-1, -2) / np.sqrt(4))
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        return np.einsum("bhtk,hkd->btd", scores @ v, wo) + bo

    def feed_forward(self, name, x):
        (w1, b1), (w2, b2) = self.weights[f"{name}_in"], self.weights[f"{name}_out"]
        return np.maximum(x @ w1 + b1, 0) @ w2 + b2

    def ssru(self, name, x):
        w, wf, bf = self.weights[name]
        cell, outputs = 0, []
        for t in range(x.shape[1]):
            forget = 1 / (1 + np.exp(-(x[:, t] @ wf + bf)))
            cell = forget * cell + (1 - forget) * (x[:, t] @ w)
            outputs.append(np.maximum(cell, 0))
        return np.stack(outputs, 1)


@pytest.mark.parametrize("normalization", ["pre", "post"])
@pytest.mark.parametrize("decoder", ["ssru", "self_attention"])
@pytest.mark.parametrize("tied", [False, True])
def test_a_student_is_what_the_equations_say(normalization, decoder, tied):
    model = randomize(small(normalization, decoder, tied))
    expected = Reference(model, normalization, decoder, tied).logits()
    np.testing.assert_allclose(logits(model), expected, rtol=1e-3, atol=1e-4)


def test_pre_norm_is_the_default():
    model = student(31, 1, 1, 8, 12, 2)
    assert {"encoder_norm", "decoder_norm"} <= {layer.name for layer in model.layers}
    with pytest.raises(ValueError, match="`normalization` must be one of 'pre', 'post'. Received"):
        small("none")


@pytest.mark.parametrize("decoder", ["ssru", "self_attention"])
@pytest.mark.parametrize("tied", [False, True])
def test_a_pruned_post_norm_student_is_rebuilt_exactly(decoder, tied, tmp_path):
    model = randomize(small("post", decoder, tied))
    draw = np.random.default_rng(0)
    # Both sublayers of one encoder layer go whole: normalizations stand one after the other.
    empty = ("encoder_0_attention", "encoder_0_ffn_in", "decoder_0_ffn_in")
    kill(model, lambda s: (draw.random(s.groups) < 0.5) | (s.name in empty))
    expected = logits(model)
    rebuilt = rebuild(model)
    left = {s.name: s.groups for s in find_structures(rebuilt)}
    assert left["encoder_1_ffn_in"] < 12 and not set(empty) & set(left)
    assert_same([expected], [logits(rebuilt)])
    rebuilt.save(tmp_path / "rebuilt.keras")
    assert_same([expected], [logits(keras.saving.load_model(tmp_path / "rebuilt.keras"))])


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("decoder", ["ssru", "self_attention"])
def test_the_file_of_a_post_norm_student_translates_as_keras_does(decoder, tmp_path):
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    vocabulary = Vocabulary.train([f"{a} {b}" for a in words for b in words], size=280)
    model = randomize(small("post", decoder, vocabulary_size=len(vocabulary)), seed=5, scale=1.0)
    for layer in model.layers:  # Else a random offset counts for more than the source does.
        if isinstance(layer, keras.layers.LayerNormalization):
            layer.set_weights([np.ones(8), np.zeros(8)])
    kill(model, lambda s: np.arange(s.groups) % 2 == 1)
    translator = Translator(rebuild(model), vocabulary, max_length=12)
    sentences = [" ".join(words[k:] + words[:k])[:20] for k in range(8)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Longer ones are cut.
        expected = translator.translate(sentences)
        assert len(set(expected)) > 1
        path = export_translator(translator, tmp_path / "post.tflite")
        assert load_translator(path).translate(sentences) == expected
