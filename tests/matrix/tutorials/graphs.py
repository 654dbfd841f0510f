"""Networks over graphs and points."""

import keras
import numpy as np
from keras import layers, ops

from tests.matrix.case import Case, ids, numbers

NODES, EDGES, UNITS = 16, 40, 32


def edges():
    return np.random.default_rng(0).integers(0, NODES, (2, EDGES))


def create_ffn(hidden_units, dropout_rate):
    fnn_layers = []
    for units in hidden_units:
        fnn_layers.append(layers.BatchNormalization())
        fnn_layers.append(layers.Dropout(dropout_rate))
        fnn_layers.append(layers.Dense(units, activation=keras.activations.gelu))
    return keras.Sequential(fnn_layers)


class GraphConvLayer(layers.Layer):
    def __init__(self, hidden_units, dropout_rate=0.2):
        super().__init__()
        self.ffn_prepare = create_ffn(hidden_units, dropout_rate)
        self.update_fn = create_ffn(hidden_units, dropout_rate)

    def call(self, inputs):
        node_representations, (node_indices, neighbour_indices) = inputs
        messages = self.ffn_prepare(ops.take(node_representations, neighbour_indices, axis=0))
        aggregated = ops.segment_sum(messages, node_indices, num_segments=NODES)
        h = ops.concatenate([node_representations, aggregated], axis=1)
        embeddings = self.update_fn(h)
        return ops.normalize(embeddings, axis=-1)


class GNNNodeClassifier(keras.Model):
    """The graph is part of the model; it is called on numbers of nodes."""

    def __init__(self, features, edges, num_classes):
        super().__init__()
        self.node_features = ops.convert_to_tensor(features)
        self.edges = ops.convert_to_tensor(edges)
        self.preprocess = create_ffn([UNITS, UNITS], 0.2)
        self.conv1 = GraphConvLayer([UNITS, UNITS])
        self.conv2 = GraphConvLayer([UNITS, UNITS])
        self.postprocess = create_ffn([UNITS, UNITS], 0.2)
        self.compute_logits = layers.Dense(units=num_classes, name="logits")

    def call(self, input_node_indices):
        x = self.preprocess(self.node_features)
        x = self.conv1((x, self.edges)) + x
        x = self.conv2((x, self.edges)) + x
        x = self.postprocess(x)
        return self.compute_logits(ops.take(x, input_node_indices, axis=0))


def node_classifier():
    features = np.random.default_rng(1).normal(size=(NODES, 20)).astype("float32")
    model = GNNNodeClassifier(features, edges(), 5)
    nodes = ids(1, NODES)[:, 0]
    model(nodes)
    return Case(model, nodes)


class GraphAttention(layers.Layer):
    """Weights of its own, and scores that are normalised over the edges of a node."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[0][-1], self.units), name="kernel")
        self.kernel_attention = self.add_weight(shape=(self.units * 2, 1), name="attention")

    def call(self, inputs):
        node_states, adjacency = inputs
        states = ops.matmul(node_states, self.kernel)
        left = ops.matmul(states, self.kernel_attention[: self.units])
        right = ops.matmul(states, self.kernel_attention[self.units :])
        scores = ops.leaky_relu(left + ops.swapaxes(right, -1, -2))
        scores = ops.where(adjacency > 0.5, scores, -1e9)
        return ops.matmul(ops.softmax(scores, axis=-1), states)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def graph_attention():
    nodes, adjacency = keras.Input((NODES, 12)), keras.Input((NODES, NODES))
    x = layers.Dense(UNITS, activation="relu")(nodes)
    for _ in range(2):
        heads = [GraphAttention(8)([x, adjacency]) for _ in range(4)]
        x = layers.Concatenate()(heads) + x
    x = layers.Dense(64, activation="relu")(x)
    model = keras.Model([nodes, adjacency], layers.Dense(5)(x))
    return Case(model, [numbers(NODES, 12), numbers(NODES, NODES, seed=2)])


@keras.saving.register_keras_serializable("matrix")
class OrthogonalRegularizer(keras.regularizers.Regularizer):
    def __init__(self, num_features, l2reg=0.001):
        self.num_features = num_features
        self.l2reg = l2reg

    def __call__(self, x):
        x = ops.reshape(x, (-1, self.num_features, self.num_features))
        xxt = ops.matmul(x, ops.transpose(x, (0, 2, 1)))
        return ops.sum(self.l2reg * ops.square(xxt - ops.eye(self.num_features)))

    def get_config(self):
        return {"num_features": self.num_features, "l2reg": self.l2reg}


def point_net():
    """Points are turned by a matrix that a small network computes from them."""

    def conv_bn(x, filters):
        x = layers.Conv1D(filters, kernel_size=1, padding="valid")(x)
        return layers.Activation("relu")(layers.BatchNormalization(momentum=0.0)(x))

    def dense_bn(x, filters):
        x = layers.BatchNormalization(momentum=0.0)(layers.Dense(filters)(x))
        return layers.Activation("relu")(x)

    def tnet(inputs, num_features):
        x = conv_bn(conv_bn(inputs, 16), 32)
        x = layers.GlobalMaxPooling1D()(x)
        x = dense_bn(dense_bn(x, 32), 16)
        x = layers.Dense(
            num_features * num_features,
            kernel_initializer="zeros",
            bias_initializer=keras.initializers.Constant(np.eye(num_features).flatten()),
            activity_regularizer=OrthogonalRegularizer(num_features),
        )(x)
        feat_T = layers.Reshape((num_features, num_features))(x)
        return layers.Dot(axes=(2, 1))([inputs, feat_T])

    inputs = keras.Input(shape=(NODES, 3))
    x = tnet(inputs, 3)
    x = conv_bn(x, 16)
    x = tnet(x, 16)
    x = layers.GlobalMaxPooling1D()(conv_bn(x, 32))
    x = layers.Dropout(0.3)(dense_bn(x, 32))
    outputs = layers.Dense(4, activation="softmax")(x)
    return Case(keras.Model(inputs, outputs), numbers(NODES, 3))


MODELS = {
    "Graph convolution": node_classifier,
    "Graph attention": graph_attention,
    "PointNet": point_net,
}
