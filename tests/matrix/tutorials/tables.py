"""Models of tables, ratings and behaviour, with lookups of words."""

import keras
import numpy as np
from keras import layers, ops

from tests.matrix.case import BATCH, POSITIONS, WORDS, Case, ids, numbers

WIDTH, UNITS = 32, 64


def one_of(names):
    import tensorflow as tf

    return tf.constant([[names[i % len(names)]] for i in range(BATCH)])


def wide_and_deep():
    """Numbers are normalised, words looked up; both go into a wide and a deep part."""
    jobs = ["nurse", "baker", "pilot"]
    inputs = {"age": keras.Input((1,)), "job": keras.Input((1,), dtype="string")}
    normalized = layers.Normalization(mean=0.4, variance=0.1)(inputs["age"])
    encoded = layers.StringLookup(vocabulary=jobs, output_mode="one_hot")(inputs["job"])
    wide = deep = layers.concatenate([normalized, encoded])
    wide = layers.BatchNormalization()(wide)
    for units in (UNITS, WIDTH):
        deep = layers.Dense(units)(deep)
        deep = layers.BatchNormalization()(deep)
        deep = layers.ReLU()(deep)
        deep = layers.Dropout(0.1)(deep)
    outputs = layers.Dense(3, activation="softmax")(layers.concatenate([wide, deep]))
    return Case(
        keras.Model(inputs, outputs),
        {"age": ops.convert_to_tensor(numbers(1)), "job": one_of(jobs)},
        1,
    )


def text_vectorization():
    """Text goes into the model as it is."""
    vectorize = layers.TextVectorization(
        max_tokens=WORDS,
        output_sequence_length=POSITIONS,
        vocabulary=["good", "bad", "film", "plot"],
    )
    inputs = keras.Input((1,), dtype="string")
    x = vectorize(inputs)
    x = layers.Embedding(WORDS, WIDTH)(x)
    x = layers.Conv1D(WIDTH, 3, padding="valid", activation="relu")(x)
    x = layers.GlobalMaxPooling1D()(x)
    x = layers.Dense(UNITS, activation="relu")(x)
    x = layers.Dropout(0.5)(x)
    outputs = layers.Dense(1, activation="sigmoid", name="predictions")(x)
    return Case(keras.Model(inputs, outputs), one_of(["good film", "bad plot"]), 1)


def tab_transformer():
    """Columns attend to one another."""
    columns = 5
    inputs, numeric = keras.Input((columns,), dtype="int32"), keras.Input((3,))
    x = layers.Embedding(WORDS, 16)(inputs)
    column = layers.Embedding(columns, 16)
    x = x + column(ops.arange(columns))
    for _ in range(2):
        attention_output = layers.MultiHeadAttention(num_heads=4, key_dim=16, dropout=0.1)(x, x)
        x = layers.Add()([attention_output, x])
        x = layers.LayerNormalization(epsilon=1e-6)(x)
        feedforward = keras.Sequential(
            [
                layers.Dense(16, activation="gelu"),
                layers.Dropout(0.1),
                layers.Dense(16, activation="gelu"),
            ]
        )(x)
        x = layers.LayerNormalization(epsilon=1e-6)(layers.Add()([feedforward, x]))
    features = layers.concatenate([layers.Flatten()(x), layers.LayerNormalization()(numeric)])
    for units in (64, 32):
        features = layers.BatchNormalization()(features)
        features = layers.Dropout(0.2)(layers.Dense(units, activation="selu")(features))
    outputs = layers.Dense(1, activation="sigmoid")(features)
    return Case(keras.Model([inputs, numeric], outputs), [ids(columns), numbers(3)])


class GatedLinearUnit(layers.Layer):
    def __init__(self, units):
        super().__init__()
        self.linear = layers.Dense(units)
        self.sigmoid = layers.Dense(units, activation="sigmoid")

    def call(self, inputs):
        return self.linear(inputs) * self.sigmoid(inputs)


class GatedResidualNetwork(layers.Layer):
    def __init__(self, units, dropout_rate):
        super().__init__()
        self.units = units
        self.elu_dense = layers.Dense(units, activation="elu")
        self.linear_dense = layers.Dense(units)
        self.dropout = layers.Dropout(dropout_rate)
        self.gated_linear_unit = GatedLinearUnit(units)
        self.layer_norm = layers.LayerNormalization()
        self.project = layers.Dense(units)

    def call(self, inputs):
        x = self.elu_dense(inputs)
        x = self.linear_dense(x)
        x = self.dropout(x)
        if inputs.shape[-1] != self.units:
            inputs = self.project(inputs)
        x = inputs + self.gated_linear_unit(x)
        return self.layer_norm(x)


class VariableSelection(layers.Layer):
    def __init__(self, num_features, units, dropout_rate):
        super().__init__()
        self.grns = [GatedResidualNetwork(units, dropout_rate) for _ in range(num_features)]
        self.grn_concat = GatedResidualNetwork(units, dropout_rate)
        self.softmax = layers.Dense(units=num_features, activation="softmax")

    def call(self, inputs):
        v = layers.concatenate(inputs)
        v = ops.expand_dims(self.softmax(self.grn_concat(v)), axis=-1)
        x = ops.stack([grn(i) for grn, i in zip(self.grns, inputs, strict=True)], axis=1)
        return ops.squeeze(ops.matmul(ops.transpose(v, axes=[0, 2, 1]), x), axis=1)


def variable_selection():
    inputs = [keras.Input((1,), name=f"feature_{i}") for i in range(4)]
    encoded = [layers.Dense(16)(x) for x in inputs]
    features = VariableSelection(4, 16, 0.1)(encoded)
    outputs = layers.Dense(units=1, activation="sigmoid")(features)
    return Case(keras.Model(inputs, outputs), [numbers(1, seed=s) for s in range(4)])


class RecommenderNet(keras.Model):
    """A product of two embeddings."""

    def __init__(self, num_users, num_movies, embedding_size, **kwargs):
        super().__init__(**kwargs)
        self.user_embedding = layers.Embedding(num_users, embedding_size)
        self.user_bias = layers.Embedding(num_users, 1)
        self.movie_embedding = layers.Embedding(num_movies, embedding_size)
        self.movie_bias = layers.Embedding(num_movies, 1)

    def call(self, inputs):
        user_vector = self.user_embedding(inputs[:, 0])
        movie_vector = self.movie_embedding(inputs[:, 1])
        dot = ops.sum(user_vector * movie_vector, axis=-1, keepdims=True)
        x = dot + self.user_bias(inputs[:, 0]) + self.movie_bias(inputs[:, 1])
        return ops.nn.sigmoid(x)


def recommender():
    model = RecommenderNet(WORDS, WORDS, WIDTH)
    model(ids(2))
    return Case(model, ids(2))


def two_tasks():
    """Towers of users and films; one part rates, another ranks."""

    class MovieModel(keras.Model):
        def __init__(self):
            super().__init__()
            self.user_model = keras.Sequential([layers.Embedding(WORDS, WIDTH)])
            self.movie_model = keras.Sequential([layers.Embedding(WORDS, WIDTH)])
            self.rating_model = keras.Sequential(
                [
                    layers.Dense(UNITS, activation="relu"),
                    layers.Dense(WIDTH, activation="relu"),
                    layers.Dense(1),
                ]
            )

        def call(self, features):
            user, movie = self.user_model(features["user"]), self.movie_model(features["movie"])
            rating = self.rating_model(ops.concatenate([user, movie], axis=1))
            return {"user": user, "movie": movie, "rating": rating}

    model = MovieModel()
    inputs = {"user": ids(1)[:, 0], "movie": ids(1, seed=2)[:, 0]}
    model(inputs)
    return Case(model, inputs)


class CrossLayer(layers.Layer):
    """x0 (W x + b) + x, of deep and cross networks."""

    def build(self, shapes):
        width = shapes[0][-1]
        self.kernel = self.add_weight(shape=(width, width), name="kernel")
        self.bias = self.add_weight(shape=(width,), initializer="zeros", name="bias")

    def call(self, inputs):
        x0, x = inputs
        return x0 * (ops.matmul(x, self.kernel) + self.bias) + x


def deep_and_cross():
    inputs = keras.Input((20,))
    x0 = layers.BatchNormalization()(inputs)
    cross = x0
    for _ in range(2):
        cross = CrossLayer()([x0, cross])
    deep = x0
    for units in (UNITS, WIDTH):
        deep = layers.Dense(units, activation="relu")(deep)
    x = layers.concatenate([cross, layers.BatchNormalization()(deep)])
    return Case(keras.Model(inputs, layers.Dense(1)(x)), numbers(20))


def behaviour_sequence():
    """Films that were seen, as a sequence, and what is known of the user beside it."""
    seen, user = keras.Input((POSITIONS,), dtype="int32"), keras.Input((3,))
    x = layers.Embedding(WORDS, 16)(seen)
    y = layers.MultiHeadAttention(num_heads=3, key_dim=16, dropout=0.1)(x, x)
    y = layers.Dropout(0.1)(y)
    x1 = layers.LayerNormalization()(layers.Add()([x, y]))
    x2 = layers.LeakyReLU()(x1)
    x2 = layers.Dense(units=x2.shape[-1])(x2)
    x2 = layers.Dropout(0.1)(x2)
    x = layers.LayerNormalization()(layers.Add()([x1, x2]))
    features = layers.concatenate([layers.Flatten()(x), user])
    for num_units in [64, 32]:
        features = layers.Dense(num_units)(features)
        features = layers.BatchNormalization()(features)
        features = layers.LeakyReLU()(features)
        features = layers.Dropout(0.1)(features)
    return Case(keras.Model([seen, user], layers.Dense(units=1)(features)), [ids(), numbers(3)])


def neural_decision_forest():
    """Soft trees: products of decisions, over dense features."""

    class NeuralDecisionTree(keras.Model):
        def __init__(self, depth, num_features, num_classes):
            super().__init__()
            self.depth, self.num_leaves = depth, 2**depth
            used = np.random.default_rng(0).permutation(num_features)[: num_features // 2]
            self.used_features_mask = np.eye(num_features, dtype="float32")[used]
            self.pi = self.add_weight(shape=(self.num_leaves, num_classes), name="pi")
            self.decision_fn = layers.Dense(self.num_leaves, activation="sigmoid", name="decision")

        def call(self, features):
            features = ops.matmul(features, ops.transpose(self.used_features_mask))
            decisions = ops.expand_dims(self.decision_fn(features), axis=2)
            decisions = layers.concatenate([decisions, 1 - decisions], axis=2)
            mu, begin, end = ops.ones_like(decisions[:, :1, :1]), 1, 2
            for level in range(self.depth):
                mu = ops.reshape(mu, [-1, begin, 1])
                mu = ops.tile(mu, (1, 1, 2)) * decisions[:, begin:end, :]
                begin, end = end, end + 2 ** (level + 1)
            mu = ops.reshape(mu, [-1, self.num_leaves])
            return ops.matmul(mu, ops.softmax(self.pi))

    inputs = keras.Input((12,))
    features = layers.Dense(UNITS, activation="relu")(layers.BatchNormalization()(inputs))
    features = layers.Dense(16)(features)
    trees = [NeuralDecisionTree(3, 16, 2)(features) for _ in range(3)]
    return Case(keras.Model(inputs, layers.Average()(trees)), numbers(12))


MODELS = {
    "Wide and deep": wide_and_deep,
    "TextVectorization": text_vectorization,
    "TabTransformer": tab_transformer,
    "Variable selection": variable_selection,
    "Recommender": recommender,
    "Recommender with two tasks": two_tasks,
    "Deep and cross": deep_and_cross,
    "Behaviour sequence": behaviour_sequence,
    "Decision forest": neural_decision_forest,
}
