"""Random Functional models with one input, as models of several sizes and networks want them."""

import keras
from hypothesis import strategies as st
from keras import layers

from tfprune.embeddings.factorized_embedding import FactorizedEmbedding

ACTIVATIONS = st.sampled_from(["relu", "gelu", "silu", "tanh", "sigmoid"])


@st.composite
def models(draw):
    """A model of one to three sublayers of random kinds, with ids or vectors as input."""
    width = draw(st.sampled_from([4, 8]))
    ids = draw(st.booleans())
    # Keras on JAX keeps the masks of eager arrays beside them, so that they need a compiled step.
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
