"""The parts of KerasHub's Llama and what it says of its embeddings, against KerasHub alone."""

import keras
import numpy as np
import pytest

from tests.models import outputs, randomize
from tfprune.keras_private.llama import parts_of_block, say_that_embeddings_are_tied

hub = pytest.importorskip("keras_hub")


@pytest.mark.parametrize("tied", [True, False])
def test_a_llama_is_loaded_with_its_embeddings_as_they_were(tied, tmp_path, monkeypatch):
    cls = hub.models.LlamaBackbone
    plain = getattr(cls.get_config, "__wrapped__", cls.get_config)
    monkeypatch.setattr(cls, "get_config", plain)
    say_that_embeddings_are_tied()
    wrapped = cls.get_config
    say_that_embeddings_are_tied()  # Once is enough.
    assert cls.get_config is wrapped
    backbone = hub.models.Llama3Backbone(20, 1, 4, 16, 32, 2, tie_word_embeddings=tied)
    model = randomize(hub.models.Llama3CausalLM(backbone, preprocessor=None))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    ids = np.arange(6).reshape(1, 6)
    x = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    assert loaded.count_params() == model.count_params()
    np.testing.assert_allclose(outputs(loaded, x), outputs(model, x), rtol=1e-5, atol=1e-6)


def test_the_parts_of_a_block_hold_all_its_weights():
    backbone = hub.models.Llama3Backbone(20, 1, 4, 16, 32, 2)
    block = backbone.transformer_layers[0]
    parts = [w.path for part in parts_of_block(block).values() for w in part.trainable_weights]
    assert sorted(parts) == sorted(w.path for w in block.trainable_weights) and len(parts) == 9
