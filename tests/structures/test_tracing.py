"""Layers that are harder to trace, and what is said of those that stay whole."""

import keras
import numpy as np
import pytest
from keras import layers

from tfprune.structures import find_structures

pytestmark = pytest.mark.sampled


class Block(layers.Layer):
    """Attention and a feed-forward pair; returns its (absent) cache too."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = layers.MultiHeadAttention(2, 2, name="attention")
        self.first = layers.Dense(6, "relu", name="first")
        self.second = layers.Dense(4, name="second")
        self.supports_masking = True

    def build(self, shape):
        self.attention.build(shape, shape)
        self.first.build(shape)
        self.second.build((*shape[:-1], 6))

    def call(self, x):
        y = x + self.attention(x, x)
        return y + self.second(self.first(y)), None


class Blocks(layers.Layer):
    """Calls a block with an argument that it does not take."""

    def __init__(self, refuses=False, **kwargs):
        super().__init__(**kwargs)
        self.block = Block(name="block")
        self.refuses = refuses
        self.supports_masking = True

    def build(self, shape):
        self.block.build(shape)
        self.block._build_shapes_dict = {"shape": shape}

    def call(self, x, training=False):
        if self.refuses and isinstance(x, keras.KerasTensor):
            raise TypeError("only numbers")
        return self.block(x, training=training)[0]

    def compute_output_spec(self, x, training=False):
        return keras.KerasTensor(x.shape)


FOUND = {"blocks/block/attention": 2, "blocks/block/first": 6}


def groups(found):
    return {s.name: s.groups for s in found}


def test_missing_outputs_and_unknown_arguments():
    x = keras.Input((3, 4))
    found = find_structures(keras.Model(x, Blocks(name="blocks")(x)))
    assert groups(found) == FOUND
    assert not found["blocks/block/attention"].masked


def test_layers_inside_a_layer_that_cannot_be_traced_are_searched():
    x = keras.Input((3, 4))
    found = find_structures(keras.Model(x, Blocks(refuses=True, name="blocks")(x)))
    assert groups(found) == FOUND
    assert "only numbers" in {s.name: s.reason for s in found.skipped}["blocks"]
    # Whether it is given a mask is unknown.
    assert found["blocks/block/attention"].masked


@pytest.mark.parametrize("masked", [True, False])
def test_masks_reach_the_layers_inside(masked):
    x = keras.Input((3,), dtype="int32")
    embedded = layers.Embedding(5, 4, mask_zero=masked)(x)
    blocks = find_structures(keras.Model(x, Blocks(name="blocks")(embedded)))
    assert blocks["blocks/block/attention"].masked == masked
    inner = keras.Input((3, 4))
    attention = layers.MultiHeadAttention(2, 2, name="attention")
    nested = keras.Model(inner, attention(inner, inner), name="nested")
    found = find_structures(keras.Model(x, nested(embedded)))
    assert found["nested/attention"].masked == masked


def test_layers_without_a_kind_are_listed_together():
    x = y = keras.Input((8, 3))
    for i in range(5):
        y = layers.RNN(layers.LSTMCell(3), return_sequences=True, name=f"lstm_{i}")(y)
        y = layers.BatchNormalization()(y)
    y = layers.Bidirectional(layers.RNN(layers.LSTMCell(2)), name="both")(y)
    found = find_structures(keras.Model(x, layers.Dense(2, name="out")(y)))
    why = {s.name: s.reason for s in found.skipped}
    assert {*why} >= {"lstm_0", "lstm_1", "lstm_2", "out"}
    assert "no kind of structure is registered for RNN" in why["lstm_0"]
    assert any("both" in name for name in why)
    assert not any("batch" in name for name in why)
    text = str(found)
    assert "lstm_0" in text and "lstm_1" in text and "… (5 in all)" in text
    assert "lstm_2" not in text


def test_tracing_leaves_keras_as_it_was():
    x = keras.Input((3, 4))
    find_structures(keras.Model(x, Blocks(name="blocks")(x)))
    with pytest.raises(ValueError, match="must be tensors"):
        Block()(keras.Input((3, 4)))
    assert np.isfinite(np.asarray(keras.ops.convert_to_numpy(Blocks()(np.ones((1, 3, 4)))))).all()
