"""What KerasHub's Llama says of its embeddings, tested against KerasHub alone."""

import keras
import numpy as np
import pytest

from tests.models import outputs, randomize
from tfprune.keras_private.llama import say_that_embeddings_are_tied

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
