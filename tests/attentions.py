"""Attention layers as people write them, of no class that tfprune knows."""

import keras
import numpy as np
from keras import layers, ops

WIDTH = 12


class Reshaped(layers.Layer):
    """Dense layers, then heads by Reshape and Transpose, as in many tutorials."""

    def __init__(self, num_heads=4, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.head_dim = 3
        self.inner_dim = num_heads * self.head_dim
        self.query = layers.Dense(self.inner_dim)
        self.key = layers.Dense(self.inner_dim)
        self.value = layers.Dense(self.inner_dim)
        self.out = layers.Dense(WIDTH)

    def split(self, x):
        shape = (ops.shape(x)[0], -1, self.num_heads, self.head_dim)
        return ops.transpose(ops.reshape(x, shape), (0, 2, 1, 3))

    def scores(self, q, k):
        return ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) / 3**0.5

    def call(self, x):
        q, k, v = (self.split(f(x)) for f in (self.query, self.key, self.value))
        weights = ops.softmax(self.scores(q, k))
        found = ops.transpose(ops.matmul(weights, v), (0, 2, 1, 3))
        return self.out(ops.reshape(found, (ops.shape(x)[0], -1, self.inner_dim)))

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads}


class Alibi(Reshaped):
    """A bias that depends on which head it is, and on how many there are."""

    def scores(self, q, k):
        slopes = 2.0 ** -(np.arange(1, self.num_heads + 1) * 8 / self.num_heads)
        positions = ops.cast(ops.arange(ops.shape(k)[2]), "float32")
        return super().scores(q, k) + slopes.astype("float32")[:, None, None] * positions


class Normalized(Reshaped):
    """All heads are normalized together."""

    def __init__(self, num_heads=4, **kwargs):
        super().__init__(num_heads, **kwargs)
        self.norm = layers.LayerNormalization()

    def call(self, x):
        q, k, v = (self.split(f(x)) for f in (self.query, self.key, self.value))
        found = ops.transpose(ops.matmul(ops.softmax(self.scores(q, k)), v), (0, 2, 1, 3))
        found = ops.reshape(found, (ops.shape(x)[0], -1, self.inner_dim))
        return self.out(self.norm(found))


class Tabled(Reshaped):
    """A table of relative positions with a column for each head."""

    def __init__(self, num_heads=4, **kwargs):
        super().__init__(num_heads, **kwargs)
        self.table = layers.Embedding(9, num_heads)

    def scores(self, q, k):
        places = ops.arange(ops.shape(k)[2])
        apart = ops.clip(places[:, None] - places[None, :] + 4, 0, 8)
        return super().scores(q, k) + ops.transpose(self.table(apart), (2, 0, 1))


class Fused(layers.Layer):
    """Queries, keys and values from one dense layer, one after the other."""

    def __init__(self, num_heads=4, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.size = 3
        self.qkv = layers.Dense(3 * num_heads * self.size)
        self.out = layers.Dense(WIDTH, use_bias=False)

    def call(self, x):
        batch = ops.shape(x)[0]
        qkv = ops.reshape(self.qkv(x), (batch, -1, 3, self.num_heads, self.size))
        q, k, v = (qkv[:, :, i] for i in range(3))
        weights = ops.softmax(ops.einsum("bqhd,bkhd->bhqk", q, k))
        found = ops.einsum("bhqk,bkhd->bqhd", weights, v)
        return self.out(ops.reshape(found, (batch, -1, self.num_heads * self.size)))

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads}


class Grouped(layers.Layer):
    """Four query heads for two of keys and values, a gate on each, and sinks."""

    def __init__(self, heads=4, kv_heads=2, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.kv_heads = heads, kv_heads

    def build(self, shape):
        width = shape[-1]
        make = layers.EinsumDense
        self.query = make("btm,mhd->bthd", (None, self.heads, 3), bias_axes="hd")
        self.gate = make("btm,mhd->bthd", (None, self.heads, 3))
        self.key = make("btm,hmd->bthd", (None, self.kv_heads, 3))
        self.value = make("btm,hmd->bthd", (None, self.kv_heads, 3), bias_axes="hd")
        self.norm = layers.LayerNormalization()
        self.sinks = self.add_weight(shape=(self.heads,), name="sinks")
        for layer in (self.query, self.gate, self.key, self.value):
            layer.build(shape)
        self.norm.build((*shape[:-1], self.heads, 3))
        self.out = make("bthd,hdm->btm", (None, width), bias_axes="m")
        self.out.build((*shape[:-1], self.heads, 3))
        self.built = True

    def call(self, x, mask=None, return_scores=False):
        q, k, v = self.norm(self.query(x)), self.key(x), self.value(x)
        k, v = (ops.repeat(y, self.heads // self.kv_heads, axis=2) for y in (k, v))
        scores = ops.einsum("bqhd,bkhd->bhqk", q, k)
        sinks = ops.zeros_like(scores[..., :1]) + self.sinks[:, None, None]
        weights = ops.softmax(ops.concatenate([scores, sinks], -1))[..., :-1]
        found = ops.einsum("bhqk,bkhd->bqhd", weights, v) * ops.sigmoid(self.gate(x))
        return (self.out(found), scores) if return_scores else self.out(found)

    def get_config(self):
        return {**super().get_config(), "heads": self.heads, "kv_heads": self.kv_heads}


class ForTensors(Reshaped):
    """Takes no symbols, as what calls TensorFlow or JAX itself does not."""

    def call(self, x):
        if isinstance(x, keras.KerasTensor):
            raise TypeError("a tensor is needed")
        return super().call(x)


def around(layer, **call):
    """A model with one attention layer that is called once."""
    x = keras.Input((None, WIDTH))
    y = layer(layers.Dense(WIDTH, name="before")(x), **call)
    return keras.Model(x, layers.Dense(2, name="after")(x + y if not call else y[0]))
