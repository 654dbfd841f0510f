"""Files with beam search translate as the translator does with the same beam."""

import keras
import numpy as np
import pytest

from tests.models import randomize
from tests.translation.test_shortlisted_translations import (
    ENCODED,
    FEW,
    SIZE,
    SOURCES,
    VOCABULARY,
    made,
    with_an_end,
)
from tfprune.translation import Translator, export_translator, exporting, load_translator, student
from tfprune.translation.loading import LiteRTTranslator

pytestmark = [pytest.mark.sampled, pytest.mark.tensorflow_only]

STUDENTS = {
    "tied": lambda: made(),
    "with an end": with_an_end,
    "pruned": lambda: made("pruned"),
    "factorized": lambda: made("factorized"),
    "dense": lambda: made("dense", "self_attention"),
}


@pytest.mark.parametrize("shortlist", [None, FEW], ids=["all", "few"])
@pytest.mark.parametrize("name", STUDENTS)
def test_a_float_file_gives_the_ids_of_the_translator(tmp_path, name, shortlist):
    translator = Translator(STUDENTS[name](), VOCABULARY, 12, shortlist)
    file = LiteRTTranslator(export_translator(translator, tmp_path / "t.tflite", beam=4))
    expected = translator.search(ENCODED, beam=4)
    for source, ids in zip(ENCODED, expected, strict=True):
        words = file.words(source)[0]
        np.testing.assert_array_equal(words[: len(ids)], ids)
        assert not words[len(ids) :].any()
    if name == "with an end":
        assert expected != translator.search(ENCODED)
        assert len({len(ids) for ids in expected if ids[-1] == VOCABULARY.end_id}) > 1


def test_a_saved_model_has_the_beam(tmp_path):
    translator = Translator(with_an_end(), VOCABULARY, 12)
    export_translator(translator, tmp_path / "saved", beam=4)
    found = load_translator(tmp_path / "saved").translate(SOURCES)
    assert found == translator.translate(SOURCES, beam=4)
    assert found != translator.translate(SOURCES)


@pytest.mark.parametrize("decoder", ["ssru", "self_attention"])
def test_an_honest_int8_file_passes(tmp_path, decoder):
    model = student(SIZE, 2, 2, 32, 64, 4, decoder=decoder, max_length=32)
    translator = Translator(randomize(model), VOCABULARY, 12, FEW)
    assert export_translator(translator, tmp_path / "t.tflite", "dynamic_int8", beam=4).exists()


@pytest.mark.parametrize("name", ["t.tflite", "saved"])
@pytest.mark.parametrize("beam", [1, 2])
def test_a_file_with_another_beam_is_not_written(tmp_path, monkeypatch, name, beam):
    for part in ("_save_id_model", "_save_text_model"):
        save = getattr(exporting, part)
        monkeypatch.setattr(exporting, part, lambda *rest, s=save: s(*rest[:-1], beam))
    with pytest.raises(ValueError, match="does not translate as the model does"):
        export_translator(Translator(with_an_end(), VOCABULARY, 12), tmp_path / name, beam=4)
    assert not list(tmp_path.iterdir())


def test_an_int8_file_without_a_kernel_is_not_written(tmp_path, monkeypatch):
    model = randomize(student(SIZE, 2, 2, 32, 64, 4, max_length=32), 1)
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    kernel = other.get_layer("decoder_0_ffn_out").kernel
    kernel.assign(0 * kernel)
    save = exporting._save_id_model
    wrong = Translator(other, VOCABULARY, 12)
    monkeypatch.setattr(exporting, "_save_id_model", lambda _, *rest: save(wrong, *rest))
    translator = Translator(model, VOCABULARY, 12)
    with pytest.raises(ValueError, match="does not translate as the model does"):
        export_translator(translator, tmp_path / "t.tflite", "dynamic_int8", beam=4)


def test_what_is_no_beam_is_refused(tmp_path):
    translator = Translator(made(), VOCABULARY, 12)
    for beam in (0, -1, 2.5, "4", True, None):
        with pytest.raises(ValueError, match="`beam` must be a positive integer"):
            export_translator(translator, tmp_path / "t.tflite", beam=beam)
