"""Reads a language model of the Llama architecture from a GGUF file into KerasHub's model."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from tfprune.extras import require
from tfprune.keras_private.llama import parts_of_block

_BPE = "gpt2"  # GGUF's name of byte-level byte-pair encoding.
_CONTROL = 3  # GGUF's type of a token that no text holds.


def llama_from_gguf(path: str | os.PathLike) -> Any:
    """Reads a language model and its tokenizer from a GGUF file.

    Quantized weights are computed back to float32. Rows of the query and key kernels, which GGUF
    holds in the order of llama.cpp's rotary embedding (pairs of neighbours), are put in the order
    of KerasHub's (pairs of half a head apart).

    Args:
        path: The file. Its architecture must be `"llama"`, its tokenizer byte-level byte-pair
            encoding.

    Returns:
        `keras_hub.models.Llama3CausalLM` with its preprocessor, which adds no tokens at the
        beginning and at the end when the model is trained.

    Raises:
        ModuleNotFoundError: If the package gguf or KerasHub is not installed.
        ValueError: If the file holds another architecture or tokenizer, scaled rotary embeddings,
            or tensors that a Llama does not have.

    Source: the GGUF specification of ggml, and `permute` of llama.cpp's `convert_hf_to_gguf.py`.

    Example:

    >>> model = llama_from_gguf("SmolLM2-135M-Instruct.Q4_1.gguf")  # doctest: +SKIP
    """
    gguf = require("gguf", extra="hub")
    models = require("keras_hub.models", extra="hub")
    reader = gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    _check(path, fields, tensors)

    def weights(name: str) -> np.ndarray:
        """A tensor in float32; of a kernel the outputs come first."""
        tensor = tensors.pop(name)
        return gguf.dequantize(tensor.data, tensor.tensor_type)

    backbone = models.Llama3Backbone(
        **_sizes(fields), tie_word_embeddings="output.weight" not in tensors
    )
    _assign(backbone, weights)
    if tensors:
        raise ValueError(
            f"`path` must be a Llama without additions. Received: path={str(path)!r}, which also "
            f"holds {', '.join(sorted(tensors)[:3])}"
        )
    preprocessor = models.Llama3CausalLMPreprocessor(
        _tokenizer(models, fields), add_start_token=False, add_end_token=False
    )
    return models.Llama3CausalLM(backbone, preprocessor)


def _check(path, fields, tensors):
    expected = {"general.architecture": "llama", "tokenizer.ggml.model": _BPE}
    for name, value in expected.items():
        if fields.get(name) != value:
            raise ValueError(
                f"`path` must be a GGUF file whose `{name}` is {value!r}. Received: "
                f"path={str(path)!r}, where it is {fields.get(name)!r}"
            )
    scaling = [name for name in fields if name.startswith("llama.rope.scaling.")]
    if scaling or "rope_freqs.weight" in tensors:
        raise ValueError(
            "`path` must be a model whose rotary embeddings are not scaled. Received: "
            f"path={str(path)!r}, with {', '.join(scaling) or 'rope_freqs.weight'}"
        )


def _sizes(fields) -> dict[str, Any]:
    return {
        "vocabulary_size": len(fields["tokenizer.ggml.tokens"]),
        "num_layers": fields["llama.block_count"],
        "num_query_heads": fields["llama.attention.head_count"],
        "num_key_value_heads": fields["llama.attention.head_count_kv"],
        "hidden_dim": fields["llama.embedding_length"],
        "intermediate_dim": fields["llama.feed_forward_length"],
        "rope_max_wavelength": fields["llama.rope.freq_base"],
        "layer_norm_epsilon": fields["llama.attention.layer_norm_rms_epsilon"],
    }


def _assign(backbone, weights):
    backbone.token_embedding.embeddings.assign(weights("token_embd.weight"))
    if not backbone.tie_word_embeddings:
        backbone.token_embedding.reverse_embeddings.assign(weights("output.weight").T)
    backbone.layer_norm.scale.assign(weights("output_norm.weight"))
    heads, key_heads = backbone.num_query_heads, backbone.num_key_value_heads
    for index, layer in enumerate(backbone.transformer_layers):
        block = f"blk.{index}"
        parts = parts_of_block(layer)
        parts["attn_norm"].scale.assign(weights(f"{block}.attn_norm.weight"))
        parts["ffn_norm"].scale.assign(weights(f"{block}.ffn_norm.weight"))
        query = half_split(weights(f"{block}.attn_q.weight"), heads)
        key = half_split(weights(f"{block}.attn_k.weight"), key_heads)
        others = ("attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
        kernels = {name: weights(f"{block}.{name}.weight") for name in others}
        for name, kernel in {"attn_q": query, "attn_k": key, **kernels}.items():
            dense = parts[name]
            dense.kernel.assign(kernel.T.reshape(dense.kernel.shape))


def half_split(kernel: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a query or key kernel of llama.cpp in the order of KerasHub's rotary embedding.

    llama.cpp turns rows 2i and 2i + 1 of a head of size d by the same angle, KerasHub rows i and
    i + d/2.

    Args:
        kernel: Shape `(heads * d, inputs)`.
        heads: How many heads it has.

    Returns:
        The same rows in the other order.

    Example:

    >>> half_split(np.arange(4)[:, None], heads=1).ravel().tolist()
    [0, 2, 1, 3]
    """
    pairs = kernel.reshape(heads, -1, 2, kernel.shape[-1])
    return pairs.swapaxes(1, 2).reshape(kernel.shape)


def _tokenizer(models, fields):
    tokens = fields["tokenizer.ggml.tokens"]
    types = fields["tokenizer.ggml.token_type"]
    return models.Llama3Tokenizer(
        vocabulary={token: index for index, token in enumerate(tokens)},
        merges=fields["tokenizer.ggml.merges"],
        bos_token=tokens[fields["tokenizer.ggml.bos_token_id"]],
        eos_token=tokens[fields["tokenizer.ggml.eos_token_id"]],
        misc_special_tokens={t for t, kind in zip(tokens, types, strict=True) if kind == _CONTROL},
    )
