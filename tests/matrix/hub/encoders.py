"""KerasHub's encoders of text."""

import numpy as np
from keras_hub import models

from tests.matrix.case import WORDS, Case, ids, padding

SIZES = {"num_layers": 2, "num_heads": 4, "hidden_dim": 32, "intermediate_dim": 128}
TEXT_SIZES = {"vocabulary_size": WORDS, **SIZES, "dropout": 0.0}
LENGTH = {"max_sequence_length": 8}

TEXT = {"token_ids": ids(), "padding_mask": padding()}
SEGMENTS = {**TEXT, "segment_ids": np.zeros_like(ids())}


def without(arguments, *names):
    return {name: value for name, value in arguments.items() if name not in names}


def electra():
    sizes = {"vocab_size": WORDS, **without(TEXT_SIZES, "vocabulary_size"), **LENGTH}
    return Case(models.ElectraBackbone(embedding_dim=16, **sizes), SEGMENTS)


def rwkv():
    model = models.RWKV7Backbone(
        hidden_size=32,
        head_size=8,
        num_layers=2,
        vocabulary_size=WORDS,
        intermediate_dim=128,
        gate_lora=8,
        mv_lora=8,
        aaa_lora=8,
        decay_lora=8,
    )
    # It works on chunks of 16 positions.
    return Case(model, {"token_ids": ids(16), "padding_mask": np.ones_like(ids(16))}, 16)


MODELS = {
    "Albert": lambda: Case(
        models.AlbertBackbone(embedding_dim=16, **TEXT_SIZES, **LENGTH), SEGMENTS
    ),
    "Bert": lambda: Case(models.BertBackbone(**TEXT_SIZES, **LENGTH), SEGMENTS),
    "DebertaV3": lambda: Case(
        models.DebertaV3Backbone(bucket_size=4, **TEXT_SIZES, **LENGTH), TEXT
    ),
    "DistilBert": lambda: Case(models.DistilBertBackbone(**TEXT_SIZES, **LENGTH), TEXT),
    "Electra": electra,
    "ESM": lambda: Case(models.ESMBackbone(**TEXT_SIZES, **LENGTH), without(TEXT, "padding_mask")),
    "FNet": lambda: Case(
        models.FNetBackbone(**without(TEXT_SIZES, "num_heads"), **LENGTH),
        without(SEGMENTS, "padding_mask"),
    ),
    "Roberta": lambda: Case(models.RobertaBackbone(**TEXT_SIZES, **LENGTH), TEXT),
    "RoformerV2": lambda: Case(
        models.RoformerV2Backbone(head_size=8, **TEXT_SIZES), without(SEGMENTS, "padding_mask")
    ),
    "RWKV7": rwkv,
    "XLMRoberta": lambda: Case(models.XLMRobertaBackbone(**TEXT_SIZES, **LENGTH), TEXT),
    "XLNet": lambda: Case(models.XLNetBackbone(**TEXT_SIZES), SEGMENTS),
}
