"""Transformers and mixers over patches of images."""

import keras
import numpy as np
from keras import layers, ops

from tests.matrix.case import Case, numbers

SIDE, PATCH, WIDTH, HEADS = 8, 2, 32, 4
PATCHES = (SIDE // PATCH) ** 2


class Patches(layers.Layer):
    def __init__(self, patch_size, **kwargs):
        super().__init__(**kwargs)
        self.patch_size = patch_size

    def call(self, images):
        batch, height, width, channels = ops.shape(images)
        p = self.patch_size
        patches = keras.ops.image.extract_patches(images, size=p)
        return ops.reshape(patches, (batch, (height // p) * (width // p), p * p * channels))

    def get_config(self):
        return {**super().get_config(), "patch_size": self.patch_size}


class PatchEncoder(layers.Layer):
    def __init__(self, num_patches, projection_dim, **kwargs):
        super().__init__(**kwargs)
        self.num_patches = num_patches
        self.projection_dim = projection_dim
        self.projection = layers.Dense(units=projection_dim)
        self.position_embedding = layers.Embedding(num_patches, projection_dim)

    def call(self, patch):
        positions = ops.expand_dims(ops.arange(0, self.num_patches, 1), axis=0)
        return self.projection(patch) + self.position_embedding(positions)

    def get_config(self):
        sizes = {"num_patches": self.num_patches, "projection_dim": self.projection_dim}
        return {**super().get_config(), **sizes}


def mlp(x, hidden_units, dropout_rate):
    for units in hidden_units:
        x = layers.Dense(units, activation=keras.activations.gelu)(x)
        x = layers.Dropout(dropout_rate)(x)
    return x


def vit():
    """The second dense layer has an activation too, and the head reads all patches."""
    inputs = keras.Input(shape=(SIDE, SIDE, 3))
    patches = Patches(PATCH)(layers.Rescaling(1.0 / 2)(inputs))
    encoded_patches = PatchEncoder(PATCHES, WIDTH)(patches)
    for _ in range(2):
        x1 = layers.LayerNormalization(epsilon=1e-6)(encoded_patches)
        attention_output = layers.MultiHeadAttention(num_heads=HEADS, key_dim=WIDTH, dropout=0.1)(
            x1, x1
        )
        x2 = layers.Add()([attention_output, encoded_patches])
        x3 = layers.LayerNormalization(epsilon=1e-6)(x2)
        x3 = mlp(x3, hidden_units=[WIDTH * 2, WIDTH], dropout_rate=0.1)
        encoded_patches = layers.Add()([x3, x2])
    representation = layers.LayerNormalization(epsilon=1e-6)(encoded_patches)
    representation = layers.Flatten()(representation)
    representation = layers.Dropout(0.5)(representation)
    features = mlp(representation, hidden_units=[64, 32], dropout_rate=0.5)
    logits = layers.Dense(10)(features)
    return Case(keras.Model(inputs=inputs, outputs=logits), numbers(SIDE, SIDE, 3))


class MLPMixerLayer(layers.Layer):
    def __init__(self, num_patches, hidden_units, dropout_rate):
        super().__init__()
        self.mlp1 = keras.Sequential(
            [
                layers.Dense(units=num_patches, activation="gelu"),
                layers.Dense(units=num_patches),
                layers.Dropout(rate=dropout_rate),
            ]
        )
        self.mlp2 = keras.Sequential(
            [
                layers.Dense(units=hidden_units, activation="gelu"),
                layers.Dense(units=hidden_units),
                layers.Dropout(rate=dropout_rate),
            ]
        )
        self.normalize = layers.LayerNormalization(epsilon=1e-6)

    def build(self, input_shape):
        super().build(input_shape)

    def call(self, inputs):
        x = self.normalize(inputs)
        x_channels = ops.transpose(x, axes=(0, 2, 1))
        mlp1_outputs = ops.transpose(self.mlp1(x_channels), axes=(0, 2, 1))
        x = mlp1_outputs + inputs
        x_patches = self.normalize(x)
        return x + self.mlp2(x_patches)


class gMLPLayer(layers.Layer):
    """Half of the channels gates the other half, after a dense layer over the patches."""

    def __init__(self, num_patches, embedding_dim, dropout_rate):
        super().__init__()
        self.channel_projection1 = keras.Sequential(
            [layers.Dense(embedding_dim * 2, activation="gelu"), layers.Dropout(dropout_rate)]
        )
        self.channel_projection2 = layers.Dense(embedding_dim)
        self.spatial_projection = layers.Dense(num_patches, bias_initializer="Ones")
        self.normalize1 = layers.LayerNormalization(epsilon=1e-6)
        self.normalize2 = layers.LayerNormalization(epsilon=1e-6)

    def spatial_gating_unit(self, x):
        u, v = ops.split(x, indices_or_sections=2, axis=2)
        v = self.normalize2(v)
        v = ops.transpose(v, axes=(0, 2, 1))
        v = ops.transpose(self.spatial_projection(v), axes=(0, 2, 1))
        return u * v

    def call(self, inputs):
        x = self.normalize1(inputs)
        x = self.spatial_gating_unit(self.channel_projection1(x))
        return inputs + self.channel_projection2(x)


def patch_classifier(blocks):
    inputs = layers.Input(shape=(SIDE, SIDE, 3))
    x = Patches(PATCH)(inputs)
    x = layers.Dense(units=WIDTH)(x)
    x = blocks(x)
    representation = layers.GlobalAveragePooling1D()(x)
    representation = layers.Dropout(rate=0.1)(representation)
    logits = layers.Dense(10)(representation)
    return Case(keras.Model(inputs=inputs, outputs=logits), numbers(SIDE, SIDE, 3))


class StochasticDepth(layers.Layer):
    def __init__(self, drop_prop, **kwargs):
        super().__init__(**kwargs)
        self.drop_prob = drop_prop
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, x, training=None):
        if training:
            keep_prob = 1 - self.drop_prob
            shape = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
            random_tensor = keep_prob + keras.random.uniform(shape, seed=self.seed_generator)
            return (x / keep_prob) * ops.floor(random_tensor)
        return x


class SequencePooling(layers.Layer):
    def __init__(self):
        super().__init__()
        self.attention = layers.Dense(1)

    def call(self, x):
        weights = ops.softmax(self.attention(x), axis=1)
        weights = ops.transpose(weights, axes=(0, 2, 1))
        return ops.squeeze(ops.matmul(weights, x), axis=-2)


def compact_transformer():
    """Convolutions make the tokens; attention over all of them makes the answer."""
    inputs = layers.Input((16, 16, 3))
    x = inputs
    for filters in (16, WIDTH):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, activation="relu")(x)
        x = layers.MaxPooling2D(3, 2, "same")(x)
    x = layers.Reshape((16, WIDTH))(x)
    for rate in np.linspace(0, 0.1, 2):
        x1 = layers.LayerNormalization(epsilon=1e-5)(x)
        attention_output = layers.MultiHeadAttention(HEADS, WIDTH, dropout=0.1)(x1, x1)
        x2 = layers.Add()([StochasticDepth(rate)(attention_output), x])
        x3 = layers.LayerNormalization(epsilon=1e-5)(x2)
        x3 = mlp(x3, [WIDTH * 2, WIDTH], 0.1)
        x = layers.Add()([StochasticDepth(rate)(x3), x2])
    x = layers.LayerNormalization(epsilon=1e-5)(x)
    logits = layers.Dense(10)(SequencePooling()(x))
    return Case(keras.Model(inputs, logits), numbers(16, 16, 3))


class LayerScale(layers.Layer):
    def __init__(self, init_values, projection_dim, **kwargs):
        super().__init__(**kwargs)
        self.gamma = self.add_weight(
            shape=(projection_dim,), initializer=keras.initializers.Constant(init_values)
        )

    def call(self, x):
        return x * self.gamma


class ClassAttention(layers.Layer):
    """The query of the class token alone attends to all patches."""

    def __init__(self, projection_dim, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = projection_dim // num_heads
        self.q = layers.Dense(projection_dim)
        self.k = layers.Dense(projection_dim)
        self.v = layers.Dense(projection_dim)
        self.proj = layers.Dense(projection_dim)

    def call(self, x):
        length, width = x.shape[1], x.shape[2]
        q = ops.expand_dims(self.q(x[:, 0]), axis=1)
        q = ops.reshape(q, (-1, 1, self.num_heads, self.head_dim))
        q = ops.transpose(q, (0, 2, 1, 3)) * self.head_dim**-0.5
        k = ops.reshape(self.k(x), (-1, length, self.num_heads, self.head_dim))
        v = ops.reshape(self.v(x), (-1, length, self.num_heads, self.head_dim))
        attention = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 2, 3, 1))), -1)
        x_cls = ops.matmul(attention, ops.transpose(v, (0, 2, 1, 3)))
        x_cls = ops.reshape(ops.transpose(x_cls, (0, 2, 1, 3)), (-1, 1, width))
        return self.proj(x_cls)


def class_attention():
    def blocks(x):
        for _ in range(2):
            y = layers.LayerNormalization()(x)
            x = x + LayerScale(1e-1, WIDTH)(ClassAttention(WIDTH, HEADS)(y))
            y = layers.LayerNormalization()(x)
            y = layers.Dense(WIDTH)(layers.Dense(WIDTH * 4, activation="gelu")(y))
            x = x + LayerScale(1e-1, WIDTH)(y)
        return x

    return patch_classifier(blocks)


MODELS = {
    "ViT with a patch encoder": vit,
    "MLP-Mixer": lambda: patch_classifier(
        keras.Sequential([MLPMixerLayer(PATCHES, WIDTH, 0.2) for _ in range(2)])
    ),
    "gMLP": lambda: patch_classifier(
        keras.Sequential([gMLPLayer(PATCHES, WIDTH, 0.2) for _ in range(2)])
    ),
    "Compact transformer": compact_transformer,
    "Class attention": class_attention,
}
