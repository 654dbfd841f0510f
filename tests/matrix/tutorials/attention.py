"""Attention that is written out instead of `MultiHeadAttention`."""

import keras
from keras import layers, ops

from tests.matrix.case import POSITIONS, WORDS, Case, ids, numbers

WIDTH, HEADS, UNITS = 32, 4, 64


class MultiHeadSelfAttention(layers.Layer):
    """Dense layers, then reshape, transpose and matmul."""

    def __init__(self, embed_dim, num_heads=8, **kwargs):
        super().__init__(**kwargs)
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.projection_dim = embed_dim // num_heads
        self.query_dense = layers.Dense(embed_dim)
        self.key_dense = layers.Dense(embed_dim)
        self.value_dense = layers.Dense(embed_dim)
        self.combine_heads = layers.Dense(embed_dim)

    def attention(self, query, key, value):
        score = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))
        dim_key = ops.cast(ops.shape(key)[-1], "float32")
        weights = ops.softmax(score / ops.sqrt(dim_key), axis=-1)
        return ops.matmul(weights, value), weights

    def separate_heads(self, x, batch_size):
        x = ops.reshape(x, (batch_size, -1, self.num_heads, self.projection_dim))
        return ops.transpose(x, (0, 2, 1, 3))

    def call(self, inputs):
        batch_size = ops.shape(inputs)[0]
        query = self.separate_heads(self.query_dense(inputs), batch_size)
        key = self.separate_heads(self.key_dense(inputs), batch_size)
        value = self.separate_heads(self.value_dense(inputs), batch_size)
        attention, _ = self.attention(query, key, value)
        attention = ops.transpose(attention, (0, 2, 1, 3))
        concatenated = ops.reshape(attention, (batch_size, -1, self.embed_dim))
        return self.combine_heads(concatenated)

    def get_config(self):
        config = super().get_config()
        return {**config, "embed_dim": self.embed_dim, "num_heads": self.num_heads}


class EinsumAttention(layers.Layer):
    """Weights of its own for each head, multiplied with einsum."""

    def __init__(self, heads, size, **kwargs):
        super().__init__(**kwargs)
        self.heads = heads
        self.size = size

    def build(self, input_shape):
        width = input_shape[-1]
        shape = (width, self.heads, self.size)
        self.wq = self.add_weight(shape=shape, name="wq")
        self.wk = self.add_weight(shape=shape, name="wk")
        self.wv = self.add_weight(shape=shape, name="wv")
        self.wo = self.add_weight(shape=(self.heads, self.size, width), name="wo")

    def call(self, x):
        q = ops.einsum("btd,dhk->bhtk", x, self.wq)
        k = ops.einsum("btd,dhk->bhtk", x, self.wk)
        v = ops.einsum("btd,dhk->bhtk", x, self.wv)
        scores = ops.einsum("bhtk,bhsk->bhts", q, k) / self.size**0.5
        mixed = ops.einsum("bhts,bhsk->bhtk", ops.softmax(scores), v)
        return ops.einsum("bhtk,hkd->btd", mixed, self.wo)

    def get_config(self):
        return {**super().get_config(), "heads": self.heads, "size": self.size}


class EinsumDenseAttention(layers.Layer):
    """EinsumDense layers, as in KerasHub."""

    def __init__(self, heads, size, width):
        super().__init__()
        self.query = layers.EinsumDense("btd,dhk->bthk", (None, heads, size), bias_axes="hk")
        self.key = layers.EinsumDense("btd,dhk->bthk", (None, heads, size), bias_axes="hk")
        self.value = layers.EinsumDense("btd,dhk->bthk", (None, heads, size), bias_axes="hk")
        self.out = layers.EinsumDense("bthk,hkd->btd", (None, width), bias_axes="d")
        self.size = size

    def call(self, x):
        q, k, v = self.query(x) * self.size**-0.5, self.key(x), self.value(x)
        weights = ops.softmax(ops.einsum("bthk,bshk->bhts", q, k))
        return self.out(ops.einsum("bhts,bshk->bthk", weights, v))


class CausalSelfAttention(layers.Layer):
    """One dense layer for query, key and value, which is split, as in nanoGPT."""

    def __init__(self, n_embd, n_head):
        super().__init__()
        self.n_head = n_head
        self.c_attn = layers.Dense(3 * n_embd)
        self.c_proj = layers.Dense(n_embd)

    def call(self, x):
        t, c = x.shape[1], x.shape[2]
        q, k, v = ops.split(self.c_attn(x), 3, axis=-1)
        q, k, v = (
            ops.transpose(ops.reshape(y, (-1, t, self.n_head, c // self.n_head)), (0, 2, 1, 3))
            for y in (q, k, v)
        )
        att = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) / (c // self.n_head) ** 0.5
        att = ops.where(ops.tril(ops.ones((t, t), "bool")), att, -1e9)
        y = ops.matmul(ops.softmax(att, axis=-1), v)
        return self.c_proj(ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (-1, t, c)))


def transformer(attention, positions=POSITIONS):
    """Pre-norm blocks around an attention layer."""
    inputs = keras.Input((positions,), dtype="int32")
    x = layers.Embedding(WORDS, WIDTH)(inputs)
    for _ in range(2):
        x = x + attention()(layers.LayerNormalization(epsilon=1e-6)(x))
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = layers.Dense(UNITS, activation="gelu")(y)
        y = layers.Dense(WIDTH)(y)
        x = x + layers.Dropout(0.1)(y)
    x = layers.LayerNormalization()(x)
    outputs = layers.Dense(2, activation="softmax")(x[:, 0])
    return Case(keras.Model(inputs, outputs), ids())


class ExternalAttention(layers.Layer):
    """Attention to trained memories instead of keys and values (EANet)."""

    def __init__(self, dim, num_heads, dim_coefficient=4):
        super().__init__()
        self.num_heads = num_heads * dim_coefficient
        self.projected = dim * dim_coefficient
        self.k = 16
        self.project = layers.Dense(self.projected)
        self.memory_key = layers.Dense(self.k)
        self.memory_value = layers.Dense(self.projected // self.num_heads)
        self.out = layers.Dense(dim)

    def call(self, inputs):
        positions = inputs.shape[1]
        x = self.project(inputs)
        x = ops.reshape(x, (-1, positions, self.num_heads, self.projected // self.num_heads))
        x = ops.transpose(x, (0, 2, 1, 3))
        attention = ops.softmax(self.memory_key(x), axis=2)
        attention = attention / (1e-9 + ops.sum(attention, axis=-1, keepdims=True))
        x = self.memory_value(attention)
        x = ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, positions, self.projected))
        return self.out(x)


def additive_attention():
    """Keras's dot-product and additive attention layers over convolutions."""
    query_input, value_input = keras.Input((POSITIONS,)), keras.Input((POSITIONS,))
    embedding = layers.Embedding(WORDS, WIDTH)
    cnn = layers.Conv1D(WIDTH, 3, padding="same")
    query, value = cnn(embedding(query_input)), cnn(embedding(value_input))
    attended = layers.Attention()([query, value])
    also = layers.AdditiveAttention()([query, value])
    pooled = [layers.GlobalAveragePooling1D()(y) for y in (query, attended, also)]
    x = layers.Concatenate()(pooled)
    x = layers.Dense(UNITS, activation="relu")(x)
    model = keras.Model([query_input, value_input], layers.Dense(1, activation="sigmoid")(x))
    return Case(model, [ids(), ids(seed=2)])


def perceiver():
    """A few trained latents attend to many positions."""
    latents, positions = 4, 16

    class Latents(layers.Layer):
        def build(self, shape):
            self.latents = self.add_weight(shape=(latents, WIDTH), name="latents")

        def call(self, x):
            return ops.tile(self.latents[None], (ops.shape(x)[0], 1, 1))

    inputs = keras.Input((positions, 8))
    data = layers.Dense(WIDTH)(inputs)
    latent = Latents()(inputs)
    for _ in range(2):
        q = layers.LayerNormalization()(latent)
        kv = layers.LayerNormalization()(data)
        queries, keys, values = (
            layers.Dense(WIDTH)(q),
            layers.Dense(WIDTH)(kv),
            layers.Dense(WIDTH)(kv),
        )
        attended = layers.Attention(use_scale=True, dropout=0.1)([queries, keys, values])
        latent = layers.Add()([latent, attended])
        y = layers.LayerNormalization()(latent)
        y = layers.Dense(WIDTH)(layers.Dense(UNITS, activation="gelu")(y))
        latent = layers.Add()([latent, y])
        y = layers.LayerNormalization()(latent)
        latent = layers.Add()([latent, layers.MultiHeadAttention(HEADS, WIDTH)(y, y)])
    x = layers.GlobalAveragePooling1D()(latent)
    return Case(keras.Model(inputs, layers.Dense(10)(x)), numbers(positions, 8))


MODELS = {
    "Attention of Dense": lambda: transformer(lambda: MultiHeadSelfAttention(WIDTH, HEADS)),
    "Attention of einsum": lambda: transformer(lambda: EinsumAttention(HEADS, WIDTH // HEADS)),
    "Attention of EinsumDense": lambda: transformer(
        lambda: EinsumDenseAttention(HEADS, WIDTH // HEADS, WIDTH)
    ),
    "Attention of one Dense": lambda: transformer(lambda: CausalSelfAttention(WIDTH, HEADS)),
    "External attention": lambda: transformer(lambda: ExternalAttention(WIDTH, 2)),
    "Attention layers of Keras": additive_attention,
    "Perceiver": perceiver,
}
