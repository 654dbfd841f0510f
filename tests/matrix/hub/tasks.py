"""Some of KerasHub's tasks: a backbone with what makes predictions of its outputs."""

from keras_hub import models

from tests.matrix.case import Case, numbers
from tests.matrix.hub.decoders import GROUPED
from tests.matrix.hub.encoders import LENGTH, SEGMENTS, TEXT, TEXT_SIZES
from tests.matrix.hub.images import VIT

MODELS = {
    "BertTextClassifier": lambda: Case(
        models.BertTextClassifier(models.BertBackbone(**TEXT_SIZES, **LENGTH), num_classes=3),
        SEGMENTS,
    ),
    "GPT2CausalLM": lambda: Case(
        models.GPT2CausalLM(models.GPT2Backbone(**TEXT_SIZES, **LENGTH)), TEXT
    ),
    "LlamaCausalLM": lambda: Case(models.LlamaCausalLM(models.LlamaBackbone(**GROUPED)), TEXT),
    "ViTImageClassifier": lambda: Case(
        models.ViTImageClassifier(models.ViTBackbone(**VIT), num_classes=3), numbers(8, 8, 3)
    ),
}
