"""How KerasHub finds the class of what is in a preset, tested against KerasHub alone."""

import json

import pytest

from tfprune.keras_private.presets import look_through

hub = pytest.importorskip("keras_hub")


def test_from_preset_goes_by_what_an_object_stands_for(tmp_path, monkeypatch):
    from keras_hub.src.utils import preset_utils

    plain = getattr(preset_utils.check_config_class, "__wrapped__", preset_utils.check_config_class)
    monkeypatch.setattr(preset_utils, "check_config_class", plain)
    hub.models.BertBackbone(9, 1, 2, 4, 4, max_sequence_length=4).save_to_preset(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**written, "registered_name": "unknown"}))
    with pytest.raises(ValueError, match="no class registered with Keras for unknown"):
        hub.models.Backbone.from_preset(str(tmp_path))
    look_through(lambda config: {**config, "registered_name": written["registered_name"]})
    wrapped = preset_utils.check_config_class
    look_through(lambda config: 1 / 0)  # The first one stays.
    assert preset_utils.check_config_class is wrapped
    assert isinstance(hub.models.Backbone.from_preset(str(tmp_path)), hub.models.BertBackbone)
