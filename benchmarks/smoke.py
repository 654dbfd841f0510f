"""Tiny data and weights for `--smoke`: a benchmark in seconds, without any download."""

import random

import keras_hub

from tfprune.datasets import number_words
from tfprune.datasets.labelled import LabelledText

GOOD, BAD = ("fine", "warm", "witty", "moving"), ("dull", "cold", "silly", "slow")
OTHERS = ("a", "the", "film", "plot", "and", "very")
# The shape of a student, and of a training of it.
STUDENT = {
    "encoder_layers": 1,
    "decoder_layers": 1,
    "model_dim": 16,
    "feed_forward_dim": 24,
    "num_heads": 4,
}
TRAINING = {
    "vocabulary_size": 320,
    "max_length": 32,
    "pretrain_epochs": 1,
    "prune_epochs": 1,
    "converge_epochs": 1,
}


def pairs():
    """Parallel text: a few numbers in words."""
    return number_words("en", "de", count=200)


def reviews(seed=0):
    """Labelled text: words in a row, of which one is good or bad."""
    draw = random.Random(seed)

    def review():
        label = draw.randrange(2)
        words = [draw.choice(OTHERS) for _ in range(draw.randint(2, 6))]
        words.insert(draw.randrange(len(words)), draw.choice((BAD, GOOD)[label]))
        return " ".join(words), label

    splits = ([review() for _ in range(count)] for count in (64, 16, 16))
    return LabelledText(("negative", "positive"), *splits)


def topics(languages):
    """Such text once for each language."""
    return {name: reviews(seed) for seed, name in enumerate(languages)}


def bert(folder):
    """A tiny BERT with random weights, saved as KerasHub's presets are; its folder."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, *GOOD, *BAD, *OTHERS]
    backbone = keras_hub.models.BertBackbone(
        len(words), num_layers=2, num_heads=4, hidden_dim=16, intermediate_dim=32, dropout=0.0
    )
    backbone.save_to_preset(folder)
    keras_hub.models.BertTokenizer(vocabulary=words).save_to_preset(folder)
    return str(folder)
