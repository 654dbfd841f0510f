"""What can be decoded word by word, and what is refused by name."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.models import randomize
from tfprune.embeddings import factorize_embeddings
from tfprune.rebuild import rebuild
from tfprune.structures import find_structures
from tfprune.translation import student
from tfprune.translation.decoding import StepDecoder
from tfprune.translation.student_layers import SSRU, SinusoidalPositions

pytestmark = pytest.mark.sampled


@keras.saving.register_keras_serializable("tests")
class Shift(keras.Layer):
    """Moves all positions by one."""

    def call(self, x):
        return ops.roll(x, 1, axis=1)


@keras.saving.register_keras_serializable("tests")
class LearnedPositions(keras.Layer):
    """Adds a row of a table at each position."""

    def build(self, shape):
        self.table = self.add_weight(shape=(64, shape[-1]), name="table")

    def call(self, x):
        return x + self.table[: ops.shape(x)[1]]

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, dtype=x.dtype)


def decoding(mix, length=None):
    """A model whose decoder is an embedding, something, and logits."""
    source = keras.Input((None,), dtype="int32", name="source")
    target = keras.Input((length,), dtype="int32", name="target")
    embedding = layers.Embedding(20, 8)
    memory = layers.GlobalAveragePooling1D(keepdims=True)(embedding(source))
    logits = layers.Dense(20)(mix(embedding(target)) + memory)
    return keras.Model([source, target], logits)


def attention(x, **options):
    return layers.MultiHeadAttention(2, 4, name="attention")(x, x, **options)


# What is refused, and the class that the reason names.
REFUSED = [
    ("Conv1D", layers.Conv1D(8, 3, padding="causal")),
    ("Conv1D", layers.Conv1D(8, 2, dilation_rate=24, padding="causal")),
    ("DepthwiseConv1D", layers.DepthwiseConv1D(3, padding="same")),
    ("GRU", layers.GRU(8, return_sequences=True)),
    ("Bidirectional", layers.Bidirectional(layers.LSTM(4, return_sequences=True))),
    ("GlobalAveragePooling1D", layers.GlobalAveragePooling1D(keepdims=True)),
    ("Max", lambda x: ops.max(x, axis=1, keepdims=True) + x),
    ("Cumsum", lambda x: ops.cumsum(x, axis=1)),
    ("Flip", lambda x: ops.flip(x, axis=1)),
    ("Permute", lambda x: layers.Permute((2, 1))(layers.Permute((2, 1))(x))),
    ("Softmax", layers.Softmax(axis=1)),
    ("GroupNormalization", layers.GroupNormalization(2)),
    ("Shift", Shift()),
    ("LearnedPositions", LearnedPositions()),
    ("MultiHeadAttention", attention),  # It sees what comes later.
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_mixes_positions_is_refused_by_name(number):
    name, mix = REFUSED[number]
    with pytest.raises(ValueError, match=f"to be decoded word by word. Received: {name} '"):
        StepDecoder(decoding(mix), 61)


@pytest.mark.parametrize("name", ["LayerNormalization", "Flatten"])
def test_operations_that_need_a_length_are_refused_by_name(name):
    mix = layers.LayerNormalization(axis=1)
    if name == "Flatten":

        def mix(x):
            return layers.Reshape((6, 8))(layers.Dense(48)(layers.Flatten()(x)))

    with pytest.raises(ValueError, match=f"Received: {name} '"):
        StepDecoder(decoding(mix, length=6), 61)


def test_a_layer_that_does_nothing_today_is_refused_too():
    conv = layers.Conv1D(8, 3, padding="causal", kernel_initializer="zeros")
    with pytest.raises(ValueError, match="Received: Conv1D"):
        StepDecoder(decoding(conv), 12)


TAKEN = {
    "dense": layers.Dense(8, "gelu"),
    "batch normalization": layers.BatchNormalization(),
    "layer normalization": layers.LayerNormalization(),
    "dropout": layers.Dropout(0.5),
    "one position wide": layers.Conv1D(8, 1),
    "heads": lambda x: layers.Reshape((-1, 8))(layers.Reshape((-1, 2, 4))(x)),
    "causal attention": lambda x: attention(x, use_causal_mask=True),
    "ssru": SSRU(64),
    "sinusoids": SinusoidalPositions(),
}


def assert_steps_are_right(model, tolerance=1e-4):
    decoder = StepDecoder(model, 12)
    ids = np.array([[4, 9, 3, 2, 5, 11], [7, 2, 1, 4, 6, 8]], "int32")
    expected = np.asarray(
        keras.ops.convert_to_numpy(model({"source": ids, "target": ids}, training=False))
    )
    memory, states = decoder.encode(ids), decoder.start(2)
    for place in range(6):
        logits, states = decoder.step(ids[:, place], place, memory, states)
        got = keras.ops.convert_to_numpy(logits)
        np.testing.assert_allclose(got, expected[:, place], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", TAKEN)
def test_what_treats_each_position_alone_is_taken(name):
    assert_steps_are_right(decoding(TAKEN[name]))


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("how", ["layer", "operation", "by name"])
def test_additions_of_one_sentence_keep_its_row(how):
    """`ops.add` squeezes a row of one, and LiteRT has no shapes after that."""
    import tensorflow as tf

    def mix(x):
        y = layers.Dense(8)(x)
        if how == "layer":
            return layers.Add()([x, y])
        return x + y if how == "operation" else ops.add(x1=x, x2=y)

    model = decoding(mix)
    assert_steps_are_right(model)
    decoder = StepDecoder(model, 12)
    memory = decoder.encode(tf.constant([[4, 9, 3]]))

    @tf.function
    def step(word):
        return decoder.step(word, 0, memory, [])[0]

    graph = step.get_concrete_function(tf.TensorSpec((1,), tf.int32)).graph
    assert not [op.name for op in graph.get_operations() if op.type == "Squeeze"]


@pytest.mark.parametrize("decoder", ["ssru", "self_attention"])
@pytest.mark.parametrize("form", ["whole", "tied", "pruned", "emptied", "factorized"])
@pytest.mark.parametrize("normalization", ["pre", "post"])
def test_students_and_their_rebuilt_forms_are_taken(decoder, form, normalization):
    options = {"tied_decoder_layers": form == "tied", "normalization": normalization}
    model = student(30, 1, 2, 8, 12, 2, decoder=decoder, max_length=16, **options)
    randomize(model)
    draw = np.random.default_rng(0)
    if form in ("pruned", "emptied"):
        for structure in find_structures(model):
            dead = draw.random(structure.groups) < (0.5 if form == "pruned" else 2)
            structure.scale((~dead).astype("float32"))
        model = rebuild(model)
    if form == "factorized":
        model = factorize_embeddings(model, 4)
    assert_steps_are_right(model, 1e-3)


def test_the_weights_of_the_model_stay():
    model = randomize(student(30, 1, 1, 8, 12, 2, max_length=16))
    before = model.get_weights()
    StepDecoder(model, 12)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_mask_that_travels_with_the_embedding_is_not_lost_without_a_word():
    source = keras.Input((None,), dtype="int32", name="source")
    target = keras.Input((None,), dtype="int32", name="target")
    embedding = layers.Embedding(20, 8, mask_zero=True)
    memory, x = embedding(source), embedding(target)
    y = layers.MultiHeadAttention(2, 4, name="cross")(x, memory)
    model = keras.Model([source, target], layers.Dense(20)(y))
    with pytest.raises(ValueError, match="Received: MultiHeadAttention 'cross'"):
        StepDecoder(model, 12)
