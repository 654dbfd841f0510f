"""The parts of KerasHub's Llama, and what its configuration leaves out."""

from __future__ import annotations

from functools import wraps
from typing import Any

import keras

_TIED = "tie_word_embeddings"


def parts_of_block(layer: keras.Layer) -> dict[str, keras.Layer]:
    """The layers of one transformer block, by the names that llama.cpp gives them.

    Assumes: a `Llama3TransformerDecoder` of KerasHub holds its layers under these attributes.

    Args:
        layer: A built block, one of `LlamaBackbone.transformer_layers`.
    """
    attention: Any = layer._self_attention_layer
    return {
        "attn_norm": layer._self_attention_layernorm,
        "attn_q": attention._query_dense,
        "attn_k": attention._key_dense,
        "attn_v": attention._value_dense,
        "attn_output": attention._output_dense,
        "ffn_norm": layer._feedforward_layernorm,
        "ffn_gate": layer._feedforward_gate_dense,
        "ffn_up": layer._feedforward_intermediate_dense,
        "ffn_down": layer._feedforward_output_dense,
    }


def say_that_embeddings_are_tied() -> None:
    """Lets the configuration of a Llama say whether input and output share their embeddings.

    Without it a Llama with tied embeddings is copied, and loaded from its file, as one without.

    Assumes: KerasHub's `LlamaBackbone` takes `tie_word_embeddings` and keeps it as an attribute.
    Up to 0.32 its `get_config` leaves it out.
    """
    from keras_hub.models import LlamaBackbone

    plain = LlamaBackbone.get_config
    if hasattr(plain, "tfprune_says_that_embeddings_are_tied"):
        return

    @wraps(plain)
    def get_config(self):
        config = plain(self)
        if hasattr(self, _TIED):  # Earlier versions cannot tie them.
            config.setdefault(_TIED, getattr(self, _TIED))
        return config

    vars(get_config)["tfprune_says_that_embeddings_are_tied"] = True
    LlamaBackbone.get_config = get_config
