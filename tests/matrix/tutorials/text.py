"""Transformers over text that classify, label or continue it."""

import keras
import numpy as np
from keras import layers, ops

from tests.matrix.case import POSITIONS, WORDS, Case, ids

WIDTH, HEADS, UNITS = 32, 4, 64


class TransformerBlock(layers.Layer):
    """Everything in `__init__`; no `build()`, no `get_config()`."""

    def __init__(self, embed_dim, num_heads, ff_dim, rate=0.1):
        super().__init__()
        self.att = layers.MultiHeadAttention(num_heads=num_heads, key_dim=embed_dim)
        self.ffn = keras.Sequential(
            [layers.Dense(ff_dim, activation="relu"), layers.Dense(embed_dim)]
        )
        self.layernorm1 = layers.LayerNormalization(epsilon=1e-6)
        self.layernorm2 = layers.LayerNormalization(epsilon=1e-6)
        self.dropout1 = layers.Dropout(rate)
        self.dropout2 = layers.Dropout(rate)

    def call(self, inputs):
        attn_output = self.att(inputs, inputs)
        attn_output = self.dropout1(attn_output)
        out1 = self.layernorm1(inputs + attn_output)
        ffn_output = self.ffn(out1)
        ffn_output = self.dropout2(ffn_output)
        return self.layernorm2(out1 + ffn_output)


class TokenAndPositionEmbedding(layers.Layer):
    def __init__(self, maxlen, vocab_size, embed_dim):
        super().__init__()
        self.token_emb = layers.Embedding(input_dim=vocab_size, output_dim=embed_dim)
        self.pos_emb = layers.Embedding(input_dim=maxlen, output_dim=embed_dim)

    def call(self, x):
        positions = ops.arange(0, ops.shape(x)[-1])
        return self.token_emb(x) + self.pos_emb(positions)


def classifier():
    inputs = layers.Input(shape=(POSITIONS,))
    x = TokenAndPositionEmbedding(POSITIONS, WORDS, WIDTH)(inputs)
    x = TransformerBlock(WIDTH, HEADS, UNITS)(x)
    x = layers.GlobalAveragePooling1D()(x)
    x = layers.Dropout(0.1)(x)
    x = layers.Dense(20, activation="relu")(x)
    x = layers.Dropout(0.1)(x)
    outputs = layers.Dense(2, activation="softmax")(x)
    return Case(keras.Model(inputs=inputs, outputs=outputs), ids())


def causal_attention_mask(n_dest, n_src, dtype):
    i = ops.arange(n_dest)[:, None]
    j = ops.arange(n_src)
    m = i >= j - n_src + n_dest
    return ops.reshape(ops.cast(m, dtype), [1, n_dest, n_src])


class CausalBlock(layers.Layer):
    """A block of a small GPT, which makes its mask in `call`."""

    def __init__(self, embed_dim, num_heads, ff_dim, rate=0.1):
        super().__init__()
        self.att = layers.MultiHeadAttention(num_heads, embed_dim)
        self.ffn = keras.Sequential(
            [layers.Dense(ff_dim, activation="relu"), layers.Dense(embed_dim)]
        )
        self.layernorm1 = layers.LayerNormalization(epsilon=1e-6)
        self.layernorm2 = layers.LayerNormalization(epsilon=1e-6)
        self.dropout1 = layers.Dropout(rate)
        self.dropout2 = layers.Dropout(rate)

    def call(self, inputs):
        seq_len = ops.shape(inputs)[1]
        causal_mask = causal_attention_mask(seq_len, seq_len, "bool")
        attention_output = self.dropout1(self.att(inputs, inputs, attention_mask=causal_mask))
        out1 = self.layernorm1(inputs + attention_output)
        ffn_output = self.dropout2(self.ffn(out1))
        return self.layernorm2(out1 + ffn_output)


def mini_gpt():
    """Two outputs, of which the second has no loss."""
    inputs = layers.Input(shape=(POSITIONS,), dtype="int32")
    x = TokenAndPositionEmbedding(POSITIONS, WORDS, WIDTH)(inputs)
    x = CausalBlock(WIDTH, HEADS, UNITS)(x)
    outputs = layers.Dense(WORDS)(x)
    model = keras.Model(inputs=inputs, outputs=[outputs, x])
    model.compile("adam", loss=[keras.losses.SparseCategoricalCrossentropy(True), None])
    return Case(model, ids())


def bert_module(query, key, value, i):
    attention_output = layers.MultiHeadAttention(
        num_heads=HEADS, key_dim=WIDTH // HEADS, name=f"encoder_{i}_multiheadattention"
    )(query, key, value)
    attention_output = layers.Dropout(0.1, name=f"encoder_{i}_att_dropout")(attention_output)
    attention_output = layers.LayerNormalization(
        epsilon=1e-6, name=f"encoder_{i}_att_layernormalization"
    )(query + attention_output)
    ffn = keras.Sequential(
        [layers.Dense(UNITS, activation="relu"), layers.Dense(WIDTH)], name=f"encoder_{i}_ffn"
    )
    ffn_output = ffn(attention_output)
    ffn_output = layers.Dropout(0.1, name=f"encoder_{i}_ffn_dropout")(ffn_output)
    return layers.LayerNormalization(epsilon=1e-6, name=f"encoder_{i}_ffn_layernormalization")(
        attention_output + ffn_output
    )


class MaskedLanguageModel(keras.Model):
    """A Functional model of a class of its own, with its own metrics."""

    def compute_loss(self, x=None, y=None, y_pred=None, mask=None, sample_weight=None):
        loss = keras.losses.sparse_categorical_crossentropy(y, y_pred)
        return ops.mean(loss)


def masked_language_model():
    inputs = layers.Input((POSITIONS,), dtype="int64")
    embeddings = layers.Embedding(WORDS, WIDTH, name="word_embedding")(inputs)
    positions = np.arange(POSITIONS)[:, None] / 10000 ** (np.arange(WIDTH) / WIDTH)
    embeddings = embeddings + np.sin(positions)[None].astype("float32")
    output = embeddings
    for i in range(2):
        output = bert_module(output, output, output, i)
    outputs = layers.Dense(WORDS, name="mlm_cls", activation="softmax")(output)
    model = MaskedLanguageModel(inputs, outputs, name="masked_bert_model")
    model.compile(optimizer="adam")
    return Case(model, ids())


class NERModel(keras.Model):
    """A subclassed model whose `call` has `training`."""

    def __init__(self, num_tags, vocab_size, maxlen, embed_dim, num_heads, ff_dim):
        super().__init__()
        self.embedding_layer = TokenAndPositionEmbedding(maxlen, vocab_size, embed_dim)
        self.transformer_block = TransformerBlock(embed_dim, num_heads, ff_dim)
        self.dropout1 = layers.Dropout(0.1)
        self.ff = layers.Dense(ff_dim, activation="relu")
        self.dropout2 = layers.Dropout(0.1)
        self.ff_final = layers.Dense(num_tags, activation="softmax")

    def call(self, inputs, training=False):
        x = self.embedding_layer(inputs)
        x = self.transformer_block(x)
        x = self.dropout1(x, training=training)
        x = self.ff(x)
        x = self.dropout2(x, training=training)
        return self.ff_final(x)


def named_entities():
    model = NERModel(9, WORDS, POSITIONS, WIDTH, HEADS, UNITS)
    model(ids())
    return Case(model, ids())


class FNetEncoder(layers.Layer):
    def __init__(self, embed_dim, dense_dim, **kwargs):
        super().__init__(**kwargs)
        self.embed_dim = embed_dim
        self.dense_dim = dense_dim
        self.dense_proj = keras.Sequential(
            [layers.Dense(dense_dim, activation="relu"), layers.Dense(embed_dim)]
        )
        self.layernorm_1 = layers.LayerNormalization()
        self.layernorm_2 = layers.LayerNormalization()

    def call(self, inputs):
        inp_complex = (ops.cast(inputs, "float32"), ops.zeros_like(inputs))
        fft = ops.fft2(inp_complex)[0]
        proj_input = self.layernorm_1(inputs + fft)
        return self.layernorm_2(proj_input + self.dense_proj(proj_input))

    def get_config(self):
        return {
            **super().get_config(),
            "embed_dim": self.embed_dim,
            "dense_dim": self.dense_dim,
        }


def fnet():
    inputs = keras.Input((POSITIONS,), dtype="int64")
    x = layers.Embedding(WORDS, WIDTH)(inputs)
    x = FNetEncoder(WIDTH, UNITS)(x)
    outputs = layers.Dense(WORDS, activation="softmax")(layers.Dropout(0.5)(x))
    return Case(keras.Model(inputs, outputs), ids())


class Router(layers.Layer):
    def __init__(self, num_experts):
        super().__init__()
        self.route = layers.Dense(units=num_experts)

    def call(self, inputs):
        return ops.softmax(self.route(inputs), axis=-1)


class Switch(layers.Layer):
    """A list of experts; every token takes the answer of one of them."""

    def __init__(self, num_experts, embed_dim, ff_dim):
        super().__init__()
        self.num_experts = num_experts
        self.experts = [
            keras.Sequential([layers.Dense(ff_dim, activation="relu"), layers.Dense(embed_dim)])
            for _ in range(num_experts)
        ]
        self.router = Router(num_experts)

    def call(self, inputs):
        probabilities = self.router(inputs)
        chosen = ops.one_hot(ops.argmax(probabilities, axis=-1), self.num_experts)
        weights = probabilities * chosen
        answers = ops.stack([expert(inputs) for expert in self.experts], axis=-1)
        return ops.sum(answers * ops.expand_dims(weights, -2), axis=-1)


def switch_transformer():
    inputs = layers.Input(shape=(POSITIONS,))
    x = TokenAndPositionEmbedding(POSITIONS, WORDS, WIDTH)(inputs)
    attended = layers.MultiHeadAttention(HEADS, WIDTH)(x, x)
    x = layers.LayerNormalization(epsilon=1e-6)(x + layers.Dropout(0.1)(attended))
    switched = Switch(4, WIDTH, UNITS)(x)
    x = layers.LayerNormalization(epsilon=1e-6)(x + layers.Dropout(0.1)(switched))
    x = layers.GlobalAveragePooling1D()(x)
    outputs = layers.Dense(2, activation="softmax")(layers.Dense(32, activation="relu")(x))
    return Case(keras.Model(inputs=inputs, outputs=outputs), ids())


MODELS = {
    "Transformer classifier": classifier,
    "Mini GPT": mini_gpt,
    "Masked language model": masked_language_model,
    "Named entities": named_entities,
    "FNet classifier": fnet,
    "Switch transformer": switch_transformer,
}
