"""KerasHub's decoders of text."""

from keras_hub import models

from tests.matrix.case import WORDS, Case, made_up
from tests.matrix.hub.encoders import LENGTH, SIZES, TEXT, TEXT_SIZES, without

# Two query heads share a key and a value.
GROUPED = {
    "vocabulary_size": WORDS,
    "num_layers": 2,
    "num_query_heads": 4,
    "num_key_value_heads": 2,
    "hidden_dim": 32,
    "intermediate_dim": 96,
}
HEADS = {"head_dim": 8}
EXPERTS = {"num_experts": 4, "top_k": 2, "moe_intermediate_dim": 32}
FULL = {"layer_types": ["full_attention"] * 2}
LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
POST_NORMS = {"use_post_ffw_norm": True, "use_post_attention_norm": True}


def text(name, **arguments):
    return lambda: Case(getattr(models, f"{name}Backbone")(**arguments), TEXT)


def any_inputs(name, **arguments):
    def make():
        model = getattr(models, f"{name}Backbone")(**arguments)
        return Case(model, made_up(model))

    return make


MODELS = {
    "Bloom": text("Bloom", **TEXT_SIZES),
    "Falcon": text(
        "Falcon",
        vocabulary_size=WORDS,
        num_attention_heads=4,
        **without(SIZES, "num_heads"),
    ),
    "Gemma": text("Gemma", **GROUPED, **HEADS),
    "Gemma2": text(
        "Gemma",
        attention_logit_soft_cap=50,
        final_logit_soft_cap=30,
        use_sliding_window_attention=True,
        sliding_window_size=4,
        **GROUPED,
        **HEADS,
        **POST_NORMS,
    ),
    "Gemma3": text("Gemma3", image_size=16, **GROUPED, **HEADS, **POST_NORMS),
    "Gemma3n": any_inputs(
        "Gemma3n",
        text_vocab_size=WORDS,
        text_hidden_size=32,
        num_hidden_layers=2,
        pad_token_id=0,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=[96] * 2,
        hidden_activation="gelu_approximate",
        sliding_window=4,
        rope_theta=10000.0,
        max_position_embeddings=16,
        vocab_size_per_layer_input=WORDS,
        hidden_size_per_layer_input=4,
        altup_num_inputs=2,
        laurel_rank=2,
        **HEADS,
        **FULL,
    ),
    "Gemma4": any_inputs("Gemma4", image_size=16, **GROUPED, **HEADS, **FULL),
    "GPT2": text("GPT2", **TEXT_SIZES, **LENGTH),
    "GPTNeoX": text("GPTNeoX", **TEXT_SIZES, **LENGTH),
    "GptOss": text("GptOss", num_experts=4, **GROUPED),
    "Llama": text("Llama", **GROUPED),
    "Llama3": text("Llama3", **GROUPED),
    "Mistral": text("Mistral", **GROUPED),
    "Mixtral": text("Mixtral", num_experts=4, **GROUPED),
    "OPT": text("OPT", **TEXT_SIZES, **LENGTH),
    "Phi3": text("Phi3", **GROUPED),
    "Qwen": text("Qwen", **GROUPED),
    "Qwen2": text("Qwen2", tie_word_embeddings=False, **GROUPED),
    "Qwen3": text("Qwen3", **GROUPED, **HEADS),
    "Qwen3_5": any_inputs("Qwen3_5", head_dim=16, **GROUPED, **LINEAR),
    "Qwen3_5Moe": any_inputs(
        "Qwen3_5Moe",
        head_dim=16,
        shared_expert_intermediate_size=64,
        **without(GROUPED, "intermediate_dim"),
        **EXPERTS,
        **LINEAR,
    ),
    "Qwen3Moe": text("Qwen3Moe", **GROUPED, **HEADS, **EXPERTS),
    "QwenMoe": text("QwenMoe", shared_expert_intermediate_dim=64, **GROUPED, **EXPERTS),
    "SmolLM3": text(
        "SmolLM3",
        num_attention_heads=4,
        attention_bias=False,
        attention_dropout=0.0,
        rope_layer_enabled_list=[True] * 2,
        layer_types=["attention"] * 2,
        mlp_bias=False,
        layer_norm_epsilon=1e-5,
        max_position_embeddings=16,
        rope_theta=10000.0,
        partial_rotary_factor=1.0,
        **without(GROUPED, "num_query_heads"),
    ),
}
