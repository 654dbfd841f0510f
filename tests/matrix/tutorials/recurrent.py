"""Recurrent models and models of time series."""

import keras
from keras import layers, ops

from tests.matrix.case import POSITIONS, WORDS, Case, ids, numbers

WIDTH, UNITS = 32, 64


def series_transformer():
    """A transformer whose feed-forward part is convolutions of width 1."""

    def transformer_encoder(inputs, head_size, num_heads, ff_dim, dropout=0):
        x = layers.MultiHeadAttention(key_dim=head_size, num_heads=num_heads, dropout=dropout)(
            inputs, inputs
        )
        x = layers.Dropout(dropout)(x)
        x = layers.LayerNormalization(epsilon=1e-6)(x)
        res = x + inputs
        x = layers.Conv1D(filters=ff_dim, kernel_size=1, activation="relu")(res)
        x = layers.Dropout(dropout)(x)
        x = layers.Conv1D(filters=inputs.shape[-1], kernel_size=1)(x)
        x = layers.LayerNormalization(epsilon=1e-6)(x)
        return x + res

    inputs = keras.Input(shape=(16, 1))
    x = inputs
    for _ in range(2):
        x = transformer_encoder(x, 16, 4, 4, 0.25)
    x = layers.GlobalAveragePooling1D(data_format="channels_last")(x)
    x = layers.Dense(128, activation="relu")(x)
    x = layers.Dropout(0.4)(x)
    outputs = layers.Dense(2, activation="softmax")(x)
    return Case(keras.Model(inputs, outputs), numbers(16, 1))


def stacked_lstm():
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(WORDS, WIDTH),
            layers.Bidirectional(layers.LSTM(16, return_sequences=True)),
            layers.Bidirectional(layers.LSTM(16)),
            layers.Dense(UNITS, activation="relu"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    return Case(model, ids())


def forecast():
    """Several steps at once, from the last of an LSTM."""
    model = keras.Sequential(
        [
            keras.Input((12, 5)),
            layers.LSTM(WIDTH, return_sequences=False),
            layers.Dense(6 * 5, kernel_initializer="zeros"),
            layers.Reshape([6, 5]),
        ]
    )
    return Case(model, numbers(12, 5))


def dense_forecast():
    """A dense layer over the time of each step, flattened."""
    model = keras.Sequential(
        [
            keras.Input((12, 5)),
            layers.Flatten(),
            layers.Dense(units=32, activation="relu"),
            layers.Dense(units=32, activation="relu"),
            layers.Dense(units=1),
            layers.Reshape([1, -1]),
        ]
    )
    return Case(model, numbers(12, 5))


def character_translator():
    """The states of one LSTM begin the other."""
    encoder_inputs = keras.Input(shape=(None, 12))
    _, state_h, state_c = layers.LSTM(WIDTH, return_state=True)(encoder_inputs)
    decoder_inputs = keras.Input(shape=(None, 14))
    decoder_outputs, _, _ = layers.LSTM(WIDTH, return_sequences=True, return_state=True)(
        decoder_inputs, initial_state=[state_h, state_c]
    )
    decoder_outputs = layers.Dense(14, activation="softmax")(decoder_outputs)
    model = keras.Model([encoder_inputs, decoder_inputs], decoder_outputs)
    return Case(model, [numbers(POSITIONS, 12), numbers(POSITIONS, 14)])


class RecurrentEncoder(layers.Layer):
    def __init__(self, units):
        super().__init__()
        self.embedding = layers.Embedding(WORDS, units, mask_zero=True)
        self.rnn = layers.Bidirectional(
            merge_mode="sum", layer=layers.GRU(units, return_sequences=True)
        )

    def call(self, x):
        return self.rnn(self.embedding(x))


class ScoredCrossAttention(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__()
        self.mha = layers.MultiHeadAttention(key_dim=units, num_heads=1, **kwargs)
        self.layernorm = layers.LayerNormalization()
        self.add = layers.Add()

    def call(self, x, context):
        attn_output, attn_scores = self.mha(query=x, value=context, return_attention_scores=True)
        self.last_attention_weights = ops.mean(attn_scores, axis=1)
        return self.layernorm(self.add([x, attn_output]))


class RecurrentDecoder(layers.Layer):
    def __init__(self, units):
        super().__init__()
        self.embedding = layers.Embedding(WORDS, units, mask_zero=True)
        self.rnn = layers.GRU(units, return_sequences=True, return_state=True)
        self.attention = ScoredCrossAttention(units)
        self.output_layer = layers.Dense(WORDS)

    def call(self, context, x, state=None):
        x = self.embedding(x)
        x, state = self.rnn(x, initial_state=state)
        x = self.attention(x, context)
        return self.output_layer(x)


class RecurrentTranslator(keras.Model):
    def __init__(self, units):
        super().__init__()
        self.encoder = RecurrentEncoder(units)
        self.decoder = RecurrentDecoder(units)

    def call(self, inputs):
        context, x = inputs
        return self.decoder(self.encoder(context), x)


def recurrent_translator():
    model, inputs = RecurrentTranslator(WIDTH), (ids(), ids(seed=2))
    model(inputs)
    return Case(model, inputs)


def wavenet():
    """Dilated convolutions with gates and skip connections."""
    inputs = keras.Input((32, 1))
    x, skips = layers.Conv1D(16, 1)(inputs), []
    for rate in (1, 2, 4):
        y = layers.Conv1D(16, 2, padding="causal", dilation_rate=rate, activation="tanh")(x)
        gate = layers.Conv1D(16, 2, padding="causal", dilation_rate=rate, activation="sigmoid")(x)
        y = layers.Conv1D(16, 1)(layers.Multiply()([y, gate]))
        skips.append(y)
        x = layers.Add()([x, y])
    x = layers.ReLU()(layers.Add()(skips))
    x = layers.Dense(UNITS, "relu")(x)
    return Case(keras.Model(inputs, layers.Dense(1)(x)), numbers(32, 1))


def time_distributed():
    """A classifier of frames for each frame of a video, and an LSTM over them."""
    frame = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(UNITS, activation="relu"),
            layers.Dense(16),
        ]
    )
    inputs = keras.Input((4, 8, 8, 3))
    x = layers.TimeDistributed(frame)(inputs)
    x = layers.TimeDistributed(layers.Dense(UNITS, activation="relu"))(x)
    x = layers.TimeDistributed(layers.Dense(16))(x)
    x = layers.LSTM(16)(x)
    return Case(keras.Model(inputs, layers.Dense(3, activation="softmax")(x)), numbers(4, 8, 8, 3))


MODELS = {
    "Time series transformer": series_transformer,
    "Bidirectional LSTM": stacked_lstm,
    "LSTM forecast": forecast,
    "Dense forecast": dense_forecast,
    "LSTM sequence to sequence": character_translator,
    "GRU translator with attention": recurrent_translator,
    "WaveNet": wavenet,
    "TimeDistributed": time_distributed,
}
