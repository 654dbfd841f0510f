"""KerasHub's BERT classifier in layers of tf_keras, for tools that take no models of Keras 3."""

import keras
import numpy as np
import tensorflow as tf
import tf_keras

INPUTS = ("token_ids", "padding_mask", "segment_ids")


class Positions(tf_keras.layers.Layer):
    """Adds the vectors of the positions to `(B, T, D)`.

    Args:
        longest: How many positions there are.
    """

    def __init__(self, longest, **kwargs):
        super().__init__(**kwargs)
        self.longest = longest

    def build(self, shape):
        """Makes the table."""
        self.table = self.add_weight("table", (self.longest, shape[-1]))

    def call(self, x):
        """The sum."""
        return x + self.table[: tf.shape(x)[1]]


class Attention(tf_keras.layers.Layer):
    """Attention of queries, keys and values that are projected already, all of `(B, T, D)`.

    Args:
        heads: Number of heads.
        dropout: Rate for the probabilities.
    """

    def __init__(self, heads, dropout, **kwargs):
        super().__init__(**kwargs)
        self.heads = heads
        self.dropout = tf_keras.layers.Dropout(dropout)

    def call(self, inputs, training=None):
        """The weighted values; the fourth input is the padding mask, `(B, T)`."""
        *projected, mask = inputs
        query, key, value = (self._split(x) for x in projected)
        scores = tf.matmul(query * query.shape[-1] ** -0.5, key, transpose_b=True)
        scores += (1.0 - tf.cast(mask, scores.dtype))[:, None, None, :] * -1e9
        weights = self.dropout(tf.nn.softmax(scores), training=training)
        mixed = tf.transpose(tf.matmul(weights, value), (0, 2, 1, 3))
        return tf.reshape(mixed, tf.shape(projected[0]))

    def _split(self, x):
        size = x.shape[-1] // self.heads
        x = tf.reshape(x, (tf.shape(x)[0], tf.shape(x)[1], self.heads, size))
        return tf.transpose(x, (0, 2, 1, 3))


def in_tf_keras(classifier):
    """The same model in tf_keras, with the same weights.

    Each projection of the attention is a `Dense` layer, so that all kernels to prune are matrices
    of `Dense` layers. Pruning by magnitude removes the same entries from them as from the kernels
    of a `MultiHeadAttention`.

    Args:
        classifier: A `BertTextClassifier` of KerasHub.

    Returns:
        The model, and the names of the encoder's `Dense` layers.
    """
    layers = tf_keras.layers
    bert = classifier.backbone
    width, rate = bert.hidden_dim, bert.dropout
    given, encoder = {}, []  # Name of a layer to its weights; the layers that may be pruned.

    def dense(name, units, source, activation=None):
        given[name] = _flat(source)
        return layers.Dense(units, activation, name=name)

    def normalised(name, source):
        given[name] = source.get_weights()
        return layers.LayerNormalization(epsilon=source.epsilon, name=name)

    def pruned(name, *rest):
        encoder.append(name)
        return dense(name, *rest)

    ids, mask, segments = (tf_keras.Input((None,), dtype="int32", name=name) for name in INPUTS)
    for name in ("token_embedding", "position_embedding", "segment_embedding"):
        given[name] = bert.get_layer(name).get_weights()
    x = layers.Embedding(bert.vocabulary_size, width, name="token_embedding")(ids)
    x = Positions(bert.max_sequence_length, name="position_embedding")(x)
    x += layers.Embedding(bert.num_segments, width, name="segment_embedding")(segments)
    x = normalised("embeddings_norm", bert.get_layer("embeddings_layer_norm"))(x)
    x = layers.Dropout(rate)(x)
    for i, block in enumerate(bert.transformer_layers):
        attention = block._self_attention_layer
        projections = [
            pruned(f"{name}_{i}", width, getattr(attention, f"_{name}_dense"))(x)
            for name in ("query", "key", "value")
        ]
        mixed = Attention(bert.num_heads, rate, name=f"attention_{i}")([*projections, mask])
        mixed = pruned(f"output_{i}", width, attention._output_dense)(mixed)
        x += layers.Dropout(rate)(mixed)
        x = normalised(f"attention_norm_{i}", block._self_attention_layer_norm)(x)
        hidden = block._feedforward_intermediate_dense
        y = pruned(f"hidden_{i}", bert.intermediate_dim, hidden, _gelu)(x)
        y = pruned(f"feed_forward_{i}", width, block._feedforward_output_dense)(y)
        x += layers.Dropout(rate)(y)
        x = normalised(f"feed_forward_norm_{i}", block._feedforward_layer_norm)(x)
    first = layers.Lambda(lambda x: x[:, 0], name="first")(x)
    x = dense("pooled", width, bert.pooled_dense, "tanh")(first)
    x = layers.Dropout(classifier.dropout)(x)
    x = dense("logits", classifier.num_classes, classifier.output_dense)(x)
    model = tf_keras.Model([ids, mask, segments], x)
    for name, weights in given.items():
        model.get_layer(name).set_weights(weights)
    return model, encoder


def furthest_apart(classifier, model, batches):
    """The largest difference between the logits of two models.

    Args:
        classifier: One of Keras 3.
        model: Its equal in tf_keras.
        batches: Pairs of inputs and labels.
    """
    return max(
        float(np.abs(keras.ops.convert_to_numpy(classifier(x)) - model(as_ids(x)).numpy()).max())
        for x, _ in batches
    )


def as_ids(x):
    """Inputs as the model takes them: integers, in its order."""
    return [np.asarray(x[name], "int32") for name in INPUTS]


def _flat(source):
    """Kernel and bias of a dense layer, or of a projection by heads, as matrix and vector."""
    kernel, bias = source.get_weights()
    bias = bias.reshape(-1)
    return [kernel.reshape(-1, len(bias)), bias]


def _gelu(x):
    return tf.nn.gelu(x, approximate=True)
