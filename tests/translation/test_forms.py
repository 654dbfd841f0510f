"""The forms in which calls are computed: which one is taken, and that it computes the same."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.models import randomize
from tests.translation.test_decoding import assert_steps_are_right
from tfprune.keras_private.attention import projections
from tfprune.overlay.folding import times
from tfprune.overlay.transforms import transform_weight
from tfprune.translation import student
from tfprune.translation.attention_forms import KeptCrossAttention, KeptSelfAttention
from tfprune.translation.decoding import StepDecoder
from tfprune.translation.forms import Position, Recurrence, Rows, Whole
from tfprune.translation.plain_attention import (
    CausalSelfAttention,
    CrossAttention,
    SelfAttention,
)
from tfprune.translation.searching import greedy
from tfprune.translation.student_layers import SinusoidalPositions, sinusoids

pytestmark = pytest.mark.sampled


def forms(model):
    """Name of each layer to the class of its form, for the encoder and for the decoder."""
    decoder = StepDecoder(model, 12)
    return [{n.operation.name: type(decoder.form_of(n)) for n in part} for part in decoder.nodes]


@pytest.mark.parametrize("decoder", ["ssru", "self_attention"])
def test_of_a_student_all_but_the_mask_and_the_first_positions_are_rows(decoder):
    encoder, steps = forms(student(30, 1, 1, 8, 12, 2, decoder=decoder, max_length=16))
    assert encoder.pop("encoder_positions") is Whole
    assert encoder.pop("encoder_0_attention") is SelfAttention
    masks = [name for name, form in encoder.items() if form is Whole]
    assert all(form is Rows for form in encoder.values() if form is not Whole)
    assert len(masks) == 2 and not any(name.startswith(("encoder", "embed")) for name in masks)
    assert steps.pop("decoder_positions") is Position
    assert steps.pop("decoder_0_cross_attention") is CrossAttention
    mixing = steps.pop("decoder_0_ssru" if decoder == "ssru" else "decoder_0_attention")
    assert mixing is (Recurrence if decoder == "ssru" else CausalSelfAttention)
    assert set(steps.values()) == {Rows}


@keras.saving.register_keras_serializable("tests")
class Sharper(layers.MultiHeadAttention):
    """Divides scores by something of its own."""

    def _compute_attention(self, query, key, value, *args, **kwargs):
        return super()._compute_attention(2 * query, key, value, *args, **kwargs)


@pytest.mark.parametrize(
    "make",
    [
        lambda name: Sharper(2, 4, name=name),
        lambda name: layers.GroupQueryAttention(4, 4, 2, name=name),
    ],
)
def test_attention_of_another_kind_is_computed_by_itself(make):
    source = keras.Input((None,), dtype="int32", name="source")
    target = keras.Input((None,), dtype="int32", name="target")
    embedding = layers.Embedding(30, 8)
    x, y = embedding(source), embedding(target)
    memory = make("encoder")(x, x)
    y = make("self")(y, y, use_causal_mask=True)
    y = make("cross")(y, memory)
    model = randomize(keras.Model([source, target], layers.Dense(30)(y)))
    encoder, steps = forms(model)
    assert encoder["encoder"] is Whole
    assert (steps["self"], steps["cross"]) == (KeptSelfAttention, KeptCrossAttention)
    assert_steps_are_right(model)


@pytest.mark.tensorflow_only  # On JAX Keras's own layer cannot compute it.
def test_sizes_of_keys_and_values_may_differ():
    source = keras.Input((None,), dtype="int32", name="source")
    target = keras.Input((None,), dtype="int32", name="target")
    embedding = layers.Embedding(30, 8)
    x, y = embedding(source), embedding(target)
    memory = layers.MultiHeadAttention(2, 4, value_dim=3, use_bias=False, name="encoder")(x, x)
    y = layers.MultiHeadAttention(2, 3, value_dim=5, name="self")(y, y, use_causal_mask=True)
    y = layers.MultiHeadAttention(2, 4, value_dim=3, name="cross")(y, memory)
    model = randomize(keras.Model([source, target], layers.Dense(30)(y)))
    encoder, steps = forms(model)
    assert encoder["encoder"] is SelfAttention
    assert (steps["self"], steps["cross"]) == (CausalSelfAttention, CrossAttention)
    assert_steps_are_right(model)


def test_a_mask_that_rows_would_lose_keeps_the_encoder_whole():
    source = keras.Input((None,), dtype="int32", name="source")
    target = keras.Input((None,), dtype="int32", name="target")
    x = layers.Embedding(30, 8, mask_zero=True)(source)
    x = layers.MultiHeadAttention(2, 4, name="encoder")(x, x)
    memory = layers.GlobalAveragePooling1D(keepdims=True)(x)
    y = layers.Dense(8)(layers.Embedding(30, 8)(target)) + memory
    model = randomize(keras.Model([source, target], layers.Dense(30)(y)))
    encoder, steps = forms(model)
    assert set(encoder.values()) == {Whole}
    assert Rows in steps.values()
    ids = np.array([[4, 9, 2], [7, 2, 0]], "int32")
    memory = StepDecoder(model, 12).encode(ids)
    alone = StepDecoder(model, 12).encode(ids[1:, :2])
    np.testing.assert_allclose(
        ops.convert_to_numpy(memory[0])[1:], ops.convert_to_numpy(alone[0]), atol=1e-5
    )


# Seeds with which translations differ in length.
@pytest.mark.parametrize(("decoder", "seed"), [("ssru", 2), ("self_attention", 3)])
def test_one_sentence_whose_number_is_known_is_translated_as_in_a_batch(decoder, seed):
    model = randomize(student(6, 2, 1, 8, 12, 2, decoder=decoder, max_length=16), seed, scale=2.0)
    steps = StepDecoder(model, 12)
    sources = np.random.default_rng(0).integers(3, 6, (16, 5)).astype("int32")
    together = ops.convert_to_numpy(greedy(steps, sources))
    alone = [ops.convert_to_numpy(greedy(steps, one[None], batch=1))[0] for one in sources]
    np.testing.assert_array_equal(together, alone)
    lengths = np.sum(together != 0, axis=1)
    assert lengths.min() < lengths.max()


@pytest.mark.parametrize("decoder", ["ssru", "self_attention"])
def test_what_a_fit_puts_before_a_weight_is_seen(decoder):
    model = randomize(student(30, 1, 1, 8, 12, 2, decoder=decoder, max_length=16))
    steps, ids = StepDecoder(model, 12), np.array([[4, 9, 3, 2]], "int32")
    for name in ("encoder_0", "decoder_0_cross", *["decoder_0"] * (decoder != "ssru")):
        kernel = projections(model.get_layer(f"{name}_attention")).value
        transform_weight(kernel, "kernel", times(lambda training: np.array([[0.0], [1.0]])))
    expected = ops.convert_to_numpy(model({"source": ids, "target": ids}, training=False))
    memory, states = steps.encode(ids), steps.start(1)
    for place in range(4):
        logits, states = steps.step(ids[:, place], place, memory, states)
        np.testing.assert_allclose(ops.convert_to_numpy(logits), expected[:, place], atol=1e-4)


def test_a_step_of_positions_is_a_row_of_the_layers_table():
    layer = SinusoidalPositions()
    whole = ops.convert_to_numpy(layer(ops.zeros((1, 9, 6))))[0]
    by_numpy = sinusoids(np.arange(9, dtype="float32"), 6, np)
    np.testing.assert_allclose(by_numpy, whole, atol=1e-6)
    angles = np.arange(9)[:, None] / 10_000 ** (np.arange(0, 6, 2) / 6)
    np.testing.assert_allclose(by_numpy, np.hstack([np.sin(angles), np.cos(angles)]), atol=1e-6)
