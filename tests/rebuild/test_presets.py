"""KerasHub's presets of rebuilt backbones and tasks."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.models import outputs, randomize
from tests.rebuild.test_generate import bart, gemma, gpt2, llama, tied_llama, with_the_cache
from tests.rebuild.test_pruned import IDS, bert
from tfprune.rebuild import presets, rebuild
from tfprune.structures import find_structures

hub = pytest.importorskip("keras_hub")

pytestmark = pytest.mark.sampled

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film"]
TEXT = np.array(["good film", "bad film"])


def classifier(preprocessed=False):
    preprocessor = None
    if preprocessed:
        tokenizer = hub.tokenizers.BertTokenizer(vocabulary=WORDS)
        preprocessor = hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=6)
    return randomize(
        hub.models.BertTextClassifier(bert(1), num_classes=2, preprocessor=preprocessor)
    )


def halved(model, **options):
    keep = {s.name: np.arange(s.groups) % 2 == 0 for s in find_structures(model)}
    return rebuild(model, keep=keep, **options)


def assert_equal(model, other):
    for one, two in zip(outputs(model, IDS), outputs(other, IDS), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("in_place", [False, True])
def test_a_classifier_and_its_backbone(in_place, tmp_path):
    model = classifier()
    before = model.count_params()
    small = halved(model, in_place=in_place)
    small.save_to_preset(tmp_path / "preset")
    assert json.loads((tmp_path / "preset/config.json").read_text())["class_name"] == "BertBackbone"
    folder = str(tmp_path / "preset")
    for cls in (hub.models.TextClassifier, hub.models.BertTextClassifier):
        loaded = cls.from_preset(folder)
        assert isinstance(loaded, hub.models.BertTextClassifier)
        assert loaded.count_params() == small.count_params() < before
        assert_equal(loaded, small)
    for cls in (hub.models.Backbone, hub.models.BertBackbone):
        loaded = cls.from_preset(folder)
        assert isinstance(loaded, hub.models.BertBackbone)
        assert_equal(loaded, small.backbone)
    # What is loaded can be cut and saved once more.
    again = halved(hub.models.TextClassifier.from_preset(folder), in_place=in_place)
    again.save_to_preset(tmp_path / "again")
    loaded = hub.models.TextClassifier.from_preset(str(tmp_path / "again"))
    assert loaded.count_params() == again.count_params() < small.count_params()
    assert_equal(loaded, again)


def test_a_backbone_that_was_cut_in_place_in_its_task_is_a_file_of_its_own(tmp_path):
    backbone = halved(classifier(), in_place=True).backbone
    backbone.save(tmp_path / "backbone.keras")
    loaded = keras.saving.load_model(tmp_path / "backbone.keras")
    assert_equal(loaded, backbone)


def test_a_copy_is_cut_in_place(tmp_path):
    small = halved(classifier())
    before = small.count_params()
    assert halved(small, in_place=True).count_params() < before
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    assert_equal(loaded, small)


def test_arguments_of_from_preset(tmp_path):
    halved(classifier()).save_to_preset(tmp_path)
    other = hub.models.TextClassifier.from_preset(str(tmp_path), num_classes=3)
    assert other.output_shape == (None, 3)
    half = hub.models.TextClassifier.from_preset(str(tmp_path), dtype="bfloat16")
    assert half.backbone.compute_dtype == "bfloat16"
    fresh = hub.models.Backbone.from_preset(str(tmp_path), load_weights=False, name="fresh")
    assert fresh.name == "fresh"


def test_a_new_task_around_a_small_backbone(tmp_path):
    backbone = halved(classifier()).backbone
    task = randomize(hub.models.BertTextClassifier(backbone, num_classes=4))
    task.save_to_preset(tmp_path)
    loaded = hub.models.TextClassifier.from_preset(str(tmp_path))
    assert_equal(loaded, task)


@pytest.mark.slow
@pytest.mark.tensorflow_only  # Tokenizers are TensorFlow's.
def test_a_fresh_process(tmp_path):
    small = halved(classifier(preprocessed=True))
    small.save_to_preset(tmp_path / "preset")
    program = (
        "import keras_hub, numpy as np\n"
        f"model = keras_hub.models.TextClassifier.from_preset({str(tmp_path / 'preset')!r})\n"
        f"np.save({str(tmp_path / 'got.npy')!r}, model.predict({TEXT.tolist()!r}, verbose=0))\n"
    )
    for imports in ("import tfprune", "import keras_hub, tfprune"):
        subprocess.run([sys.executable, "-c", f"{imports}\n{program}"], check=True)
        want = small.predict(TEXT, verbose=0)
        np.testing.assert_allclose(np.load(tmp_path / "got.npy"), want, rtol=1e-5, atol=1e-6)
        (tmp_path / "got.npy").unlink()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "there is no class registered with Keras for tfprune>Pruned" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("make", [gpt2, bart, llama, tied_llama, gemma])
def test_a_language_model_generates_the_same(make, tmp_path):
    model = make()
    small = halved(model, in_place=make is bart)
    small.save_to_preset(tmp_path)
    base = hub.models.Seq2SeqLM if make is bart else hub.models.CausalLM
    loaded = base.from_preset(str(tmp_path))
    assert type(loaded).__name__ == type(model).__name__
    assert loaded.count_params() == small.count_params() < make().count_params()
    assert with_the_cache(loaded) == with_the_cache(small)


def test_what_fails_while_it_is_saved_changes_nothing(tmp_path, monkeypatch):
    small = halved(classifier())
    small.save_to_preset(tmp_path / "preset")
    before = {p: p.read_bytes() for p in (tmp_path / "preset").iterdir()}
    monkeypatch.setattr(presets, "_for_presets", lambda config: 1 / 0)
    for name in ("preset", "new"):
        with pytest.raises(ZeroDivisionError):
            small.save_to_preset(tmp_path / name)
    assert {p: p.read_bytes() for p in (tmp_path / "preset").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["preset"]


def test_cuts_that_the_backbone_does_not_know_are_refused(tmp_path):
    small = halved(classifier())
    # As earlier versions left a task that was cut in place.
    backbone = small.backbone
    vars(small)["_cuts"] = backbone._cuts
    backbone.__class__ = type(backbone).__mro__[2]
    del vars(backbone)["_cuts"]
    with pytest.raises(ValueError, match=r"Save the model as one file: `model.save\("):
        small.save_to_preset(tmp_path / "preset")
    assert not Path(tmp_path / "preset").exists()


def test_a_preset_that_nothing_was_cut_from_is_left_to_keras_hub(tmp_path):
    model = classifier()
    model.save_to_preset(tmp_path)
    assert type(hub.models.Backbone.from_preset(str(tmp_path))) is hub.models.BertBackbone
