"""KerasHub's models with an encoder and a decoder."""

import numpy as np
from keras_hub import models

from tests.matrix.case import WORDS, Case, ids, numbers, padding
from tests.matrix.hub.encoders import LENGTH, SIZES, TEXT_SIZES, without

DECODER = {"decoder_token_ids": ids(), "decoder_padding_mask": padding()}
PAIR = {"encoder_token_ids": ids(seed=2), "encoder_padding_mask": padding(), **DECODER}


def t5_gemma(name):
    halves = {}
    for half in ("encoder", "decoder"):
        halves |= {
            f"{half}_hidden_dim": 32,
            f"{half}_intermediate_dim": 96,
            f"{half}_num_layers": 2,
            f"{half}_num_attention_heads": 4,
            f"{half}_num_key_value_heads": 2,
            f"{half}_head_dim": 8,
            f"{half}_layer_types": ["full_attention"] * 2,
        }
    return Case(getattr(models, name)(vocabulary_size=WORDS, **halves), PAIR)


def ed_rec():
    model = models.EdRecBackbone(
        vocab_size=WORDS,
        num_layers_enc=2,
        num_layers_dec=2,
        hidden_dim=32,
        intermediate_dim=96,
        num_heads=4,
    )
    return Case(model, PAIR)


def whisper():
    model = models.WhisperBackbone(
        num_mels=8,
        max_encoder_sequence_length=12,
        max_decoder_sequence_length=8,
        **without(TEXT_SIZES, "dropout"),
    )
    return Case(model, {"encoder_features": numbers(12, 8), **DECODER})


def moonshine():
    model = models.MoonshineBackbone(
        vocabulary_size=WORDS,
        filter_dim=32,
        encoder_num_layers=2,
        decoder_num_layers=2,
        encoder_num_heads=4,
        decoder_num_heads=4,
        **without(SIZES, "num_layers", "num_heads"),
    )
    sound = 2000
    inputs = {
        "encoder_input_values": numbers(sound, 1),
        "encoder_padding_mask": np.ones((2, sound), "int32"),
        **DECODER,
    }
    return Case(model, inputs, sound)


MODELS = {
    "Bart": lambda: Case(models.BartBackbone(**TEXT_SIZES, **LENGTH), PAIR),
    "EdRec": ed_rec,
    "Moonshine": moonshine,
    "T5": lambda: Case(models.T5Backbone(**TEXT_SIZES), PAIR),
    "T5Gemma": lambda: t5_gemma("T5GemmaBackbone"),
    "T5Gemma2": lambda: t5_gemma("T5Gemma2Backbone"),
    "Whisper": whisper,
}
