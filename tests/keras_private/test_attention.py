"""The parts of attention layers, tested against Keras alone."""

import keras
import numpy as np
import pytest
from keras import layers

from tfprune.keras_private.attention import attend, output_shape_of, projections
from tfprune.keras_private.layers import inner_layers


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.MultiHeadAttention(2, 3, value_dim=5),
        lambda: layers.GroupQueryAttention(3, 4, 2),
    ],
)
def test_projections_of_attention(make):
    x = keras.Input((6, 8))
    layer = make()
    layer(x, x)
    parts = projections(layer)
    inside = inner_layers(layer)
    for part in (parts.query, parts.key, parts.value, parts.output):
        assert isinstance(part, layers.EinsumDense) and part in inside
    assert parts.query.kernel.shape[0] == parts.value.kernel.shape[0] == 8
    assert parts.query.kernel.shape[1:] == parts.output.kernel.shape[:2] or (
        parts.value.kernel.shape[1:] == parts.output.kernel.shape[:2]
    )
    assert parts.key.kernel.shape[1] == parts.value.kernel.shape[1]
    assert parts.output.kernel.shape[-1] == 8


def test_projections_are_what_attention_computes_with():
    x = keras.Input((6, 8))
    layer = layers.MultiHeadAttention(2, 3)
    layer(x, x)
    given = np.random.default_rng(0).normal(size=(1, 6, 8)).astype("float32")
    before = keras.ops.convert_to_numpy(layer(given, given))
    parts = projections(layer)
    parts.output.kernel.assign(2 * parts.output.kernel)
    after = keras.ops.convert_to_numpy(layer(given, given))
    np.testing.assert_allclose(after, 2 * before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [lambda: layers.MultiHeadAttention(2, 3), lambda: layers.GroupQueryAttention(3, 4, 2)],
)
def test_attention_is_what_lies_between_the_projections(make):
    x = keras.Input((6, 8))
    layer = make()
    layer(x, x)
    given = np.random.default_rng(0).normal(size=(2, 6, 8)).astype("float32")
    mask = np.tril(np.ones((1, 6, 6), bool))
    parts = projections(layer)
    found = attend(layer, parts.query(given), parts.key(given), parts.value(given), mask)
    expected = keras.ops.convert_to_numpy(layer(given, given, use_causal_mask=True))
    got = keras.ops.convert_to_numpy(parts.output(found))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_the_output_shape_of_attention_is_kept():
    assert output_shape_of(layers.MultiHeadAttention(2, 3)) is None
    made = layers.MultiHeadAttention(2, 3, output_shape=(5,))
    assert tuple(output_shape_of(made)) == (5,)
