"""Rebuilt equals masked, on random masks over random architectures.

How many of them is said by the profile of Hypothesis: a few, or many in `make test-slow`.
"""

import keras
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from keras import layers

from tests.models import assert_same, kill, noise, outputs, randomize
from tfprune.embeddings.factorized_embedding import FactorizedEmbedding
from tfprune.rebuild import rebuild
from tfprune.structures import find_structures

pytestmark = pytest.mark.one_backend

ACTIVATIONS = st.sampled_from(["relu", "gelu", "silu", "tanh", "sigmoid"])


@st.composite
def models(draw):
    """A model of one to three sublayers of random kinds, with ids or vectors as input."""
    width = draw(st.sampled_from([4, 8]))
    ids = draw(st.booleans())
    # Keras on JAX keeps the masks of eager arrays by their `id`, which may be taken by another
    # array; which mask a layer sees is then a matter of luck.
    masked = keras.backend.backend() != "jax" and ids and draw(st.booleans())
    if ids:
        inputs = keras.Input((5,), dtype="int32")
        if draw(st.booleans()):
            x = FactorizedEmbedding(9, width, rank=3, mask_zero=masked)(inputs)
        else:
            x = layers.Embedding(9, width, mask_zero=masked)(inputs)
    else:
        inputs = keras.Input((5, width))
        x = inputs
    shared = layers.Dense(width)
    for _ in range(draw(st.integers(1, 3))):
        if draw(st.booleans()):
            x = shared(x)  # It may be called in front of several sublayers.
        kind = draw(st.sampled_from(["attention", "grouped", "ffn", "gated", "einsum", "tied"]))
        bias, residual = draw(st.booleans()), draw(st.booleans())
        norm = draw(st.sampled_from(["before", "after", "none"]))
        y = layers.LayerNormalization()(x) if norm == "before" else x
        if kind == "attention":
            y = layers.MultiHeadAttention(
                draw(st.integers(1, 3)), 2, value_dim=3, use_bias=bias, dropout=0.1
            )(y, y, use_causal_mask=draw(st.booleans()))
        elif kind == "grouped":
            y = layers.GroupQueryAttention(2, 4, 2, use_bias=bias)(y, y)
        elif kind == "gated":
            gate = layers.Dense(6, draw(ACTIVATIONS), use_bias=bias)(y)
            merge = draw(st.sampled_from([layers.Multiply, layers.Maximum, layers.Minimum]))
            y = merge()([gate, layers.Dense(6, use_bias=bias)(y)])
            y = layers.Dense(width)(y)
        elif kind == "einsum":
            y = layers.EinsumDense("abc,cd->abd", (None, 6), bias_axes="d" if bias else None)(y)
            y = layers.Activation(draw(ACTIVATIONS))(y)
            y = layers.EinsumDense("abc,cd->abd", (None, width), bias_axes="d")(y)
        else:
            first = layers.Dense(6, draw(ACTIVATIONS), use_bias=bias)
            second = layers.Dense(width, use_bias=draw(st.booleans()))
            y = second(layers.Dropout(0.1)(first(y)))
            if kind == "tied":
                y = second(first(y))
        x = layers.Add()([x, y]) if residual else y
        if norm == "after":
            x = layers.LayerNormalization()(x)
    pooled = layers.GlobalAveragePooling1D()(x)
    outputs = [layers.Dense(3)(pooled)]
    if draw(st.booleans()):
        outputs.append(x)
    return keras.Model(inputs, outputs), ids, width


@given(data=st.data())
def test_rebuilt_equals_masked(data, tmp_path_factory):
    model, ids, width = data.draw(models())
    seed = data.draw(st.integers(0, 10_000))
    randomize(model, seed)
    draw = np.random.default_rng(seed)
    share = data.draw(st.sampled_from([0.0, 0.3, 0.7, 1.0]))
    dead = {s.name: draw.random(s.groups) < share for s in find_structures(model)}
    kill(model, dead, producers_only=data.draw(st.booleans()))
    x = draw.integers(0, 9, (2, 5)) if ids else noise(2, 5, width, seed=seed)
    expected = outputs(model, x)
    before = [np.array(w) for w in model.get_weights()]

    small = rebuild(model)

    assert_same(expected, outputs(small, x))
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)  # The old model is left alone.
    path = tmp_path_factory.mktemp("saved") / "small.keras"
    small.save(path)
    assert_same(expected, outputs(keras.saving.load_model(path), x))


@example(seed=762)  # Nothing is left of the dense pair.
@given(seed=st.integers(0, 1000))
def test_mixed_precision_within_its_own_error(seed):
    policy = keras.dtype_policies.DTypePolicy("mixed_bfloat16")
    inputs = keras.Input((4, 8))
    y = layers.MultiHeadAttention(4, 2, dtype=policy)(inputs, inputs)
    y = layers.Dense(6, "gelu", dtype=policy)(y)
    model = randomize(keras.Model(inputs, layers.Dense(3, dtype=policy)(y)), seed)
    draw = np.random.default_rng(seed)
    kill(model, lambda s: draw.random(s.groups) < 0.5)
    x = noise(2, 4, 8, seed=seed)
    small = rebuild(model)
    assert [v.dtype for v in small.weights] == ["float32"] * len(small.weights)
    assert small.layers[-1].dtype_policy.name == "mixed_bfloat16"
    assert_same(outputs(model, x), outputs(small, x), tolerance=3e-2)
