import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.models import noise
from tfprune.keras_private.softmax import (
    has_softmax,
    is_attention,
    masked_scores_at,
    softmax_hooked,
)


def recorded(layer, *inputs, **options):
    calls = []
    with softmax_hooked(layer, lambda *call: calls.append(call)):
        outputs = layer(*inputs, **options)
    return outputs, calls


@pytest.mark.parametrize("flash", [None, False])
@pytest.mark.parametrize(
    "make",
    [
        lambda **options: layers.MultiHeadAttention(2, 4, **options),
        lambda **options: layers.GroupQueryAttention(4, 4, 2, **options),
    ],
)
def test_keras_layers_call_their_softmax_where_scores_are_returned(make, flash):
    layer, x, y = make(flash_attention=flash), noise(2, 5, 8), noise(2, 3, 8, seed=2)
    before, scores = layer(x, y, return_attention_scores=True)
    state = vars(layer).keys()

    after, calls = recorded(layer, x, y)

    ((is_context, probabilities, _),) = calls
    assert is_context
    np.testing.assert_allclose(before, after, atol=1e-6)
    np.testing.assert_allclose(ops.convert_to_numpy(probabilities), scores, atol=1e-6)
    assert vars(layer).keys() == state
    tensor = ops.convert_to_tensor(x)
    assert [is_context for is_context, _, _ in recorded(layer, tensor, tensor)[1]] == [False]


def test_a_mask_comes_with_the_probabilities():
    layer, x = layers.MultiHeadAttention(2, 4), ops.convert_to_tensor(noise(2, 5, 8))
    layer(x, x)
    _, ((_, probabilities, mask),) = recorded(layer, x, x, use_causal_mask=True)
    shape = np.broadcast_shapes(mask.shape, (2, 1, 5, 5))
    visible = np.broadcast_to(ops.convert_to_numpy(mask), shape).astype(bool)
    np.testing.assert_array_equal(visible[0, 0], np.tri(5, dtype=bool))
    assert ops.convert_to_numpy(probabilities)[:, :, ~np.tri(5, dtype=bool)].max() < 1e-6


def test_a_layer_of_keras_hub_asks_its_module_for_a_fused_kernel():
    keras_hub = pytest.importorskip("keras_hub")
    llama = keras_hub.models.LlamaBackbone(20, 1, 4, 16, 32, 2)
    (layer,) = [x for x in llama._flatten_layers(include_self=False) if has_softmax(x)]
    x = ops.convert_to_tensor(noise(1, 3, 16))
    mask = ops.ones((1, 3, 3), "bool")
    before = layer(x, attention_mask=mask)
    after, calls = recorded(layer, x, attention_mask=mask)
    assert len(calls) == 1 and calls[0][1].shape == (1, 4, 3, 3)
    np.testing.assert_allclose(ops.convert_to_numpy(before), ops.convert_to_numpy(after), atol=1e-5)


def test_other_layers_have_no_softmax():
    for layer in (layers.Dense(2), layers.Softmax()):
        assert not has_softmax(layer) and not is_attention(layer)
    assert is_attention(layers.MultiHeadAttention(2, 4))


def test_a_failing_layer_is_restored():
    layer = layers.MultiHeadAttention(2, 4)
    layer(noise(1, 2, 8), noise(1, 2, 8))
    state = dict(vars(layer))
    with pytest.raises(Exception, match="."):
        recorded(layer, keras.KerasTensor((1, 2, 7)), None)
    assert vars(layer) == state


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_masked_scores_are_set(dropout):
    """At 0 they are as all others here. Keras's softmax layer then makes zero of what is masked."""
    layer, x = layers.MultiHeadAttention(2, 4, dropout=dropout), noise(2, 5, 8)
    layer(x, x)
    layer.query_dense.kernel.assign(ops.zeros_like(layer.query_dense.kernel))
    masked = ops.convert_to_numpy(layer(x, x, use_causal_mask=True))
    expected = masked * np.arange(1, 6)[:, None] / 5 if dropout else layer(x, x)
    with masked_scores_at(0.0) as asked:
        np.testing.assert_allclose(layer(x, x, use_causal_mask=True), expected, atol=1e-5)
    assert asked and np.abs(masked - expected).max() > 0.01
    np.testing.assert_array_equal(layer(x, x, use_causal_mask=True), masked)
    with masked_scores_at(-16.0) as asked:
        layer(x, x)
    assert not asked
