"""The students of the papers: small encoder-decoder transformers, written in Keras."""

from __future__ import annotations

import keras
from keras import layers, ops

from tfprune.arguments import one_of
from tfprune.translation.student_layers import SSRU, SinusoidalPositions


def student(
    vocabulary_size: int,
    encoder_layers: int = 6,
    decoder_layers: int = 2,
    model_dim: int = 256,
    feed_forward_dim: int = 1536,
    num_heads: int = 8,
    head_dim: int | None = None,
    decoder: str = "ssru",
    tied_decoder_layers: bool = False,
    dropout: float = 0.0,
    normalization: str = "pre",
    max_length: int = 256,
    name: str = "student",
) -> keras.Model:
    """Builds a translation student.

    The defaults are the sizes of the "tiny" student of the papers. Embeddings are shared by source,
    target and output.

    Args:
        vocabulary_size: Units of the shared vocabulary.
        encoder_layers: Depth of the encoder.
        decoder_layers: Depth of the decoder.
        model_dim: Width of the model.
        feed_forward_dim: Units of each feed-forward layer.
        num_heads: Heads of each attention layer.
        head_dim: Size of a head; `model_dim // num_heads` by default.
        decoder: What the decoder uses instead of or as self-attention, `"ssru"` or
            `"self_attention"`.
        tied_decoder_layers: Use one decoder layer `decoder_layers` times.
        dropout: Dropout rate; the students use none.
        normalization: `"pre"`: each sublayer reads what is normalized, `x + f(norm(x))`, and each
            stack ends with a normalization more. `"post"`: `norm(x + f(x))`, as in the original
            transformer and by default in Marian, with which the papers train; it needs a longer
            warm-up the deeper it is.
        max_length: The longest sequence in training, in tokens.
        name: Name of the model.

    Returns:
        A Functional `keras.Model`: `{"source": (B, S), "target": (B, T)}` int32, 0 for padding,
        to logits `(B, T, vocabulary_size)`.

    Raises:
        ValueError: If a number is not positive, `model_dim` is not divisible by `num_heads` while
            `head_dim` is unset, or `decoder` or `normalization` is unknown.

    Source: Behnke & Heafield, WMT 2021, section 4: `6-2tied`, `6-6`, `12-1` and `6-2` are
    `encoder_layers`-`decoder_layers`. Post-norm: Vaswani et al., "Attention Is All You Need", 2017,
    section 3.1; pre-norm and warm-up: Xiong et al., "On Layer Normalization in the Transformer
    Architecture", ICML 2020.

    Example:

    >>> model = student(500, encoder_layers=2, decoder_layers=1, model_dim=32,
    ...                 feed_forward_dim=64, num_heads=4)
    >>> model.output_shape
    (None, None, 500)
    """
    sizes = {
        "vocabulary_size": vocabulary_size,
        "encoder_layers": encoder_layers,
        "decoder_layers": decoder_layers,
        "model_dim": model_dim,
        "feed_forward_dim": feed_forward_dim,
        "num_heads": num_heads,
        "max_length": max_length,
    }
    for key, value in sizes.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"`{key}` must be a positive integer. Received: {key}={value!r}")
    if head_dim is None and model_dim % num_heads:
        raise ValueError(
            "`model_dim` must be divisible by `num_heads`, or `head_dim` given. Received: "
            f"model_dim={model_dim}, num_heads={num_heads}"
        )
    one_of("decoder", decoder, ("ssru", "self_attention"))
    one_of("normalization", normalization, ("pre", "post"))
    build = _Builder(
        model_dim,
        feed_forward_dim,
        num_heads,
        head_dim or model_dim // num_heads,
        dropout,
        normalization,
    )
    source = keras.Input((None,), dtype="int32", name="source")
    target = keras.Input((None,), dtype="int32", name="target")
    embedding = layers.ReversibleEmbedding(
        vocabulary_size,
        model_dim,
        embeddings_initializer=keras.initializers.RandomNormal(stddev=model_dim**-0.5),
        name="embedding",
    )
    # Said with the mask as a tensor: a layer that is pruned away can then carry none away.
    source_mask = ops.expand_dims(ops.not_equal(source, 0), axis=1)

    x = SinusoidalPositions(name="encoder_positions")(embedding(source))
    for i in range(encoder_layers):
        x = build.attention(f"encoder_{i}_attention")(x, mask=source_mask)
        x = build.feed_forward(f"encoder_{i}_ffn")(x)
    memory = build.end_of_stack("encoder_norm")(x)

    y = SinusoidalPositions(name="decoder_positions")(embedding(target))
    blocks = []
    for i in range(1 if tied_decoder_layers else decoder_layers):
        if decoder == "ssru":
            mixing = build.ssru(f"decoder_{i}_ssru", max_length)
        else:
            mixing = build.attention(f"decoder_{i}_attention", causal=True)
        cross = build.attention(f"decoder_{i}_cross_attention")
        blocks.append((mixing, cross, build.feed_forward(f"decoder_{i}_ffn")))
    for i in range(decoder_layers):
        mixing, cross, feed_forward = blocks[i % len(blocks)]
        y = mixing(y)
        y = cross(y, memory=memory, mask=source_mask)
        y = feed_forward(y)
    logits = embedding(build.end_of_stack("decoder_norm")(y), reverse=True)
    return keras.Model({"source": source, "target": target}, logits, name=name)


class _Builder:
    """Makes sublayers: each computes, adds its input, and normalizes before or after."""

    def __init__(self, model_dim, feed_forward_dim, num_heads, head_dim, dropout, normalization):
        self.model_dim = model_dim
        self.feed_forward_dim = feed_forward_dim
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.dropout = dropout
        self.is_post_norm = normalization == "post"

    def _residual(self, name, compute):
        norm = _norm(f"{name}_norm")
        drop = layers.Dropout(self.dropout, name=f"{name}_dropout") if self.dropout else None

        def apply(x, **kwargs):
            result = compute(x if self.is_post_norm else norm(x), **kwargs)
            total = layers.Add()([x, drop(result) if drop else result])
            return norm(total) if self.is_post_norm else total

        return apply

    def end_of_stack(self, name):
        """What follows the last sublayer, whose sum post-norm has normalized already."""
        return (lambda x: x) if self.is_post_norm else _norm(name)

    def attention(self, name, causal=False):
        layer = layers.MultiHeadAttention(self.num_heads, self.head_dim, name=name)

        def compute(x, memory=None, mask=None):
            return layer(
                x, x if memory is None else memory, attention_mask=mask, use_causal_mask=causal
            )

        return self._residual(name, compute)

    def feed_forward(self, name):
        inner = layers.Dense(self.feed_forward_dim, activation="relu", name=f"{name}_in")
        outer = layers.Dense(self.model_dim, name=f"{name}_out")
        return self._residual(name, lambda x: outer(inner(x)))

    def ssru(self, name, max_length):
        return self._residual(name, SSRU(max_length, name=name))


def _norm(name):
    return layers.LayerNormalization(epsilon=1e-6, name=name)
