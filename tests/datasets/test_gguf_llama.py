import numpy as np
import pytest
from keras import ops

from tfprune.datasets import llama_from_gguf
from tfprune.datasets.gguf_llama import half_split

gguf = pytest.importorskip("gguf")
pytest.importorskip("keras_hub")

LAYERS, WIDTH, HEADS, KEY_HEADS, UNITS, THETA, EPSILON = 2, 32, 4, 2, 64, 100.0, 1e-3
SIZE = WIDTH // HEADS
TOKENS = ["<s>", "</s>", "a", "b", "Ġ", "ab", "Ġab", "1"]
IDS = np.array([[0, 2, 3, 6, 7], [5, 5, 1, 4, 2]])


def tensors(seed=0):
    """Weights of a small Llama as GGUF names them, outputs first."""
    draw = np.random.default_rng(seed)
    shapes = {"token_embd.weight": (len(TOKENS), WIDTH), "output_norm.weight": (WIDTH,)}
    for index in range(LAYERS):
        block = {
            "attn_norm": (WIDTH,),
            "attn_q": (WIDTH, WIDTH),
            "attn_k": (KEY_HEADS * SIZE, WIDTH),
            "attn_v": (KEY_HEADS * SIZE, WIDTH),
            "attn_output": (WIDTH, WIDTH),
            "ffn_norm": (WIDTH,),
            "ffn_gate": (UNITS, WIDTH),
            "ffn_up": (UNITS, WIDTH),
        }
        shapes |= {f"blk.{index}.{name}.weight": shape for name, shape in block.items()}
    made = {name: draw.normal(0, 0.3, shape).astype("float32") for name, shape in shapes.items()}
    for index in range(LAYERS):
        # Sixteen levels from -1, which 4 bits hold as they are.
        levels = draw.integers(0, 16, (WIDTH, UNITS))
        levels[:, ::32], levels[:, 1::32] = 0, 15
        made[f"blk.{index}.ffn_down.weight"] = (levels / 8 - 1).astype("float32")
    return made


def written(path, weights, **changes):
    """A GGUF file with these weights; fields in `changes` are added or replaced."""
    fields = {
        "block_count": LAYERS,
        "embedding_length": WIDTH,
        "feed_forward_length": UNITS,
        "head_count": HEADS,
        "head_count_kv": KEY_HEADS,
        "layer_norm_rms_eps": EPSILON,
        "rope_freq_base": THETA,
        "tokenizer_model": "gpt2",
        "token_list": TOKENS,
        "token_types": [3, 3, *[1] * (len(TOKENS) - 2)],
        "token_merges": ["a b", "Ġ ab"],
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    writer = gguf.GGUFWriter(path, changes.pop("architecture", "llama"))
    for name, value in {**fields, **changes}.items():
        getattr(writer, f"add_{name}")(value)
    for name, value in weights.items():
        if "ffn_down" in name:
            kind = gguf.GGMLQuantizationType.Q4_1
            writer.add_tensor(name, gguf.quantize(value, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def normalized(x, scale):
    return x / np.sqrt(np.mean(x**2, -1, keepdims=True) + EPSILON) * scale


def rotated(x):
    """llama.cpp's rotary embedding of `(batch, length, heads, size)`: neighbours are a pair."""
    angles = np.arange(x.shape[1])[:, None] * THETA ** (-np.arange(0, SIZE, 2) / SIZE)
    turned = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)[:, None]
    return np.stack([turned.real, turned.imag], -1).reshape(x.shape)


def logits(weights, ids, output):
    """What llama.cpp computes, in NumPy."""
    x = weights["token_embd.weight"][ids].astype(float)
    for index in range(LAYERS):
        w = {n.split(".")[2]: v for n, v in weights.items() if n.startswith(f"blk.{index}.")}
        read = normalized(x, w["attn_norm"])
        q, k, v = ((read @ w[f"attn_{n}"].T).reshape(*ids.shape, -1, SIZE) for n in "qkv")
        k, v = (np.repeat(part, HEADS // KEY_HEADS, 2) for part in (rotated(k), v))
        scores = np.einsum("bqhd,bkhd->bhqk", rotated(q), k) / np.sqrt(SIZE)
        scores = np.where(np.tri(ids.shape[1], dtype=bool), scores, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        mixed = np.einsum("bhqk,bkhd->bqhd", shares, v).reshape(x.shape)
        x = x + mixed @ w["attn_output"].T
        read = normalized(x, w["ffn_norm"])
        gate = read @ w["ffn_gate"].T
        x = x + (gate / (1 + np.exp(-gate)) * (read @ w["ffn_up"].T)) @ w["ffn_down"].T
    return normalized(x, weights["output_norm.weight"]) @ output.T


@pytest.mark.parametrize("tied", [True, False])
def test_the_model_computes_what_llama_cpp_would(tmp_path, tied):
    weights = tensors()
    more = {} if tied else {"output.weight": tensors(1)["token_embd.weight"]}
    model = llama_from_gguf(written(tmp_path / "model.gguf", {**weights, **more}))
    assert model.backbone.tie_word_embeddings == tied
    x = {"token_ids": IDS, "padding_mask": np.ones_like(IDS)}
    expected = logits(weights, IDS, more.get("output.weight", weights["token_embd.weight"]))
    np.testing.assert_allclose(ops.convert_to_numpy(model(x)), expected, rtol=1e-4, atol=1e-4)


def test_rows_are_put_half_a_head_apart():
    # Two heads of four rows: llama.cpp pairs (0, 1) and (2, 3), KerasHub (0, 2) and (1, 3).
    rows = np.array([[row, -row] for row in range(8)])
    assert half_split(rows, heads=2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_text_is_encoded_without_additions(tmp_path):
    model = llama_from_gguf(written(tmp_path / "model.gguf", tensors()))
    tokenizer = model.preprocessor.tokenizer
    assert np.asarray(tokenizer("ab ab1<s>a")).tolist() == [5, 6, 7, 0, 2]
    assert tokenizer.detokenize([5, 6, 7]) == "ab ab1"
    x, y, kept = model.preprocessor(["ab ab1"], sequence_length=4)
    assert np.asarray(x["token_ids"])[0, :3].tolist() == [5, 6, 7]
    assert np.asarray(y)[0, :2].tolist() == [6, 7] and np.asarray(kept)[0].sum() == 2


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"architecture": "gemma"}, "`general.architecture` is 'llama'. Received: .* 'gemma'"),
        ({"tokenizer_model": "llama"}, "`tokenizer.ggml.model` is 'gpt2'. Received: .* 'llama'"),
        ({"rope_scaling_factor": 2.0}, "not scaled. Received: .* llama.rope.scaling.factor"),
        ({"extra": "blk.0.attn_q.bias"}, "without additions. Received: .* blk.0.attn_q.bias"),
    ],
)
def test_other_models_are_refused(tmp_path, changes, match):
    weights = tensors()
    if "extra" in changes:
        weights[changes.pop("extra")] = np.zeros(WIDTH, "float32")
    path = written(tmp_path / "model.gguf", weights, **changes)
    with pytest.raises(ValueError, match=match):
        llama_from_gguf(path)
