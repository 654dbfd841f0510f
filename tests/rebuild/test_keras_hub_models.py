"""Rebuilding across KerasHub's architectures: what is found is cut exactly, the rest stays."""

import keras
import numpy as np
import pytest

from tests.models import assert_same, kill, outputs, randomize
from tfprune.gates import MovementScores, attach, detach
from tfprune.rebuild import rebuild
from tfprune.structures import find_structures

pytestmark = pytest.mark.sampled

keras_hub = pytest.importorskip("keras_hub")

IDS, MASK = np.array([[1, 2, 3, 4, 5]]), np.array([[1, 1, 1, 1, 0]])
TEXT = {"token_ids": IDS, "padding_mask": MASK}
PAIR = {
    "encoder_token_ids": IDS,
    "encoder_padding_mask": MASK,
    "decoder_token_ids": IDS,
    "decoder_padding_mask": MASK,
}
SIZES = {"num_layers": 2, "hidden_dim": 8, "intermediate_dim": 12, "vocabulary_size": 20}
# Name to arguments, inputs and the kinds of structures in it.
MODELS = {
    "GPT2": ({**SIZES, "num_heads": 2, "max_sequence_length": 8}, TEXT, {"heads", "ffn"}),
    "Bart": ({**SIZES, "num_heads": 2, "max_sequence_length": 8}, PAIR, {"heads", "ffn"}),
    "DistilBert": ({**SIZES, "num_heads": 2, "max_sequence_length": 8}, TEXT, {"heads", "ffn"}),
    "Llama": ({**SIZES, "num_query_heads": 4, "num_key_value_heads": 2}, TEXT, {"heads", "ffn"}),
    "Gemma": (
        {**SIZES, "num_query_heads": 4, "num_key_value_heads": 2, "head_dim": 4},
        TEXT,
        {"heads", "ffn"},
    ),
    "T5": ({**SIZES, "num_heads": 2}, PAIR, {"heads", "ffn"}),
    "GPTNeoX": (
        {**SIZES, "num_heads": 2, "rotary_percentage": 0.5, "max_sequence_length": 8},
        TEXT,
        {"heads", "ffn"},
    ),
    "DeiT": (
        {
            "image_shape": (16, 16, 3),
            "patch_size": 8,
            "num_layers": 2,
            "num_heads": 2,
            "hidden_dim": 8,
            "intermediate_dim": 12,
        },
        np.ones((1, 16, 16, 3), "float32"),
        {"heads", "ffn"},
    ),
    "ViT": (
        {
            "image_shape": (16, 16, 3),
            "patch_size": 8,
            "num_layers": 2,
            "num_heads": 2,
            "hidden_dim": 8,
            "mlp_dim": 12,
        },
        np.ones((1, 16, 16, 3), "float32"),
        {"heads", "ffn"},
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_rebuilt_equals_masked(name, tmp_path):
    arguments, given, kinds = MODELS[name]
    model = randomize(getattr(keras_hub.models, f"{name}Backbone")(**arguments), scale=0.2)
    assert set(find_structures(model).kinds) == kinds
    kill(model, lambda s: np.arange(s.groups) % 2 == 0, producers_only=True)
    expected = outputs(model, given)
    small = rebuild(model)
    assert type(small).__name__ == f"{name}Backbone"
    assert_same(expected, outputs(small, given))
    assert (small.count_params() < model.count_params()) == bool(kinds)
    small.save(tmp_path / "small.keras")
    assert_same(expected, outputs(keras.saving.load_model(tmp_path / "small.keras"), given))


@pytest.mark.slow
@pytest.mark.tensorflow_only  # One backend is enough for what takes half a gigabyte.
def test_a_classifier_of_the_size_of_bert_base(tmp_path):
    backbone = keras_hub.models.BertBackbone(30522, 12, 12, 768, 3072, dropout=0.0)
    model = keras_hub.models.BertTextClassifier(backbone, num_classes=2)
    given = {**TEXT, "segment_ids": np.zeros_like(IDS)}
    gates = attach(model, [MovementScores(s) for s in find_structures(model)])
    for gate in gates:
        gate.scores.assign(np.arange(gate.structure.groups) % 2)
        gate.threshold.assign(0.5)
    expected = outputs(model, given)
    before = model.count_params()
    small = rebuild(model)
    assert before > 109e6 and small.count_params() < 68e6
    assert_same(expected, outputs(small, given))
    detach(model)
    small.save(tmp_path / "small.keras")
    assert_same(expected, outputs(keras.saving.load_model(tmp_path / "small.keras"), given))
