"""Files of translators: what they keep, and how they are compared with the translator."""

import logging
import shutil
import warnings
import zipfile

import keras
import numpy as np
import pytest

from tests.models import kill, randomize
from tfprune.embeddings import factorize_embeddings
from tfprune.rebuild import rebuild
from tfprune.structures import find_structures
from tfprune.translation import (
    Translator,
    Vocabulary,
    batches,
    export_translator,
    exporting,
    load_translator,
    student,
)
from tfprune.translation.loading import LiteRTTranslator
from tfprune.translation.searching import greedy, shortfalls

pytestmark = [pytest.mark.sampled, pytest.mark.tensorflow_only]

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
VOCABULARY = Vocabulary.train([f"{a} {b}" for a in WORDS for b in WORDS], size=280)
LONG = [" ".join(WORDS[k:] + WORDS[:k]) for k in range(8)]


def translator(max_length=12, seed=0):
    model = student(len(VOCABULARY), 1, 1, 16, 24, 2, max_length=64)
    return Translator(randomize(model, seed), VOCABULARY, max_length)


def translated(made, sentences=LONG):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # They are cut.
        return made.translate(sentences)


@pytest.mark.parametrize("name", ["t.tflite", "saved"])
def test_what_is_written_on_the_way_is_not_told(tmp_path, name):
    told = []
    logger, handler = logging.getLogger("tensorflow"), logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())
    before = logger.level
    logger.setLevel(logging.INFO)  # As it is in notebooks.
    logger.addHandler(handler)
    try:
        export_translator(translator(), tmp_path / name)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
    assert not told


@pytest.mark.parametrize("max_length", [12, 100])
def test_the_longest_sentence_is_kept(tmp_path, max_length):
    made = translator(max_length)
    expected = translated(made)
    made.save(tmp_path / "t.keras")
    for name in ("t.tflite", "saved"):
        export_translator(made, tmp_path / name)
    shutil.copytree(tmp_path, tmp_path / "moved")
    for name in ("t.keras", "t.tflite", "saved"):
        loaded = load_translator(tmp_path / "moved" / name)
        assert loaded.max_length == max_length
        assert translated(loaded) == expected
    # What was asked for is another matter.
    assert load_translator(tmp_path / "t.keras", 20).max_length == 20
    assert load_translator(tmp_path / "t.tflite", 5).max_length == 5
    with pytest.raises(ValueError, match=f"`max_length` is {max_length} in this SavedModel"):
        load_translator(tmp_path / "saved", 20)
    assert load_translator(tmp_path / "saved", max_length).max_length == max_length


STUDENTS = [
    ("self_attention", "whole", "pre"),
    ("self_attention", "pruned", "post"),
    ("self_attention", "emptied", "pre"),
    ("ssru", "tied", "pre"),
    ("ssru", "factorized", "post"),
]


@pytest.mark.parametrize(("decoder", "kind", "normalization"), STUDENTS)
def test_a_float_file_gives_the_ids_of_the_translator(tmp_path, decoder, kind, normalization):
    options = {"tied_decoder_layers": kind == "tied", "normalization": normalization}
    model = student(len(VOCABULARY), 2, 2, 16, 24, 2, decoder=decoder, **options)
    randomize(model, scale=1.0)
    draw = np.random.default_rng(0)
    if kind in ("pruned", "emptied"):
        dead = {
            s.name: draw.random(s.groups) < (0.5 if kind == "pruned" else 2)
            for s in find_structures(model)
        }
        kill(model, dead)
        model = rebuild(model)
    if kind == "factorized":
        model = factorize_embeddings(model, 4)
    made = Translator(model, VOCABULARY, 12)
    file = LiteRTTranslator(export_translator(made, tmp_path / "t.tflite"))
    sources = [[*draw.integers(3, len(VOCABULARY), n), VOCABULARY.end_id] for n in range(1, 11)]
    for ids, expected in zip(sources, made.search(sources), strict=True):
        words = file.words(ids)[0]
        np.testing.assert_array_equal(words[: len(expected)], expected)
        assert not words[len(expected) :].any()


def test_sentences_are_run_by_length_and_come_back_in_their_order(tmp_path, monkeypatch):
    made = translator(max_length=64)
    file = LiteRTTranslator(export_translator(made, tmp_path / "t.tflite"))
    sentences = ["one two three four five six seven", "one", "", LONG[0], "two three", "  "]
    expected = [file.translate(sentence)[0] for sentence in sentences]
    assert made.translate(sentences) == expected and expected[2] == expected[5] == ""
    lengths, words = [], file.words
    monkeypatch.setattr(file, "words", lambda ids: (lengths.append(len(ids)), words(ids))[1])
    assert file.translate(sentences) == expected
    assert lengths == sorted(lengths) and len(set(lengths)) == 4


def test_files_that_do_not_say_take_64_tokens(tmp_path):
    made = translator()
    made.model.save(tmp_path / "t.keras")
    VOCABULARY.save(tmp_path / "t.vocabulary")
    assert load_translator(tmp_path / "t.keras").max_length == 64


def test_a_saved_translator_is_a_keras_file_as_others_are(tmp_path):
    made = translator()
    made.save(tmp_path / "t.keras")
    assert zipfile.ZipFile(tmp_path / "t.keras").testzip() is None
    model = keras.saving.load_model(tmp_path / "t.keras")
    ids = np.array([[4, 5, 2]])
    inputs = {"source": ids, "target": ids}
    np.testing.assert_array_equal(model(inputs), made.model(inputs))


def test_shortfalls_are_what_the_whole_model_says():
    made = translator()
    source = np.array([[9, 30, 7, 2], [8, 2, 0, 0]], "int32")
    words = np.random.default_rng(0).integers(1, len(VOCABULARY), (2, 12)).astype("int32")
    target = np.concatenate([[[1], [1]], words[:, :-1]], axis=1)
    logits = np.asarray(made.model({"source": source, "target": target}))
    best = logits.max(-1)
    lost, chance, _ = map(np.asarray, shortfalls(made.decoder, source, words))
    chosen = np.take_along_axis(logits, words[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(lost, best - chosen, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(chance, best - logits.mean(-1), rtol=1e-3, atol=1e-3)
    likeliest = greedy(made.decoder, source)
    assert np.max(np.asarray(shortfalls(made.decoder, source, likeliest)[0])[:, :3]) < 1e-4


def short(made, monkeypatch):
    """Cuts sentences earlier than it should."""
    return Translator(made.model, VOCABULARY, made.max_length // 2)


def forgetful(made, monkeypatch):
    """Computes something else once sentences are long."""
    real = exporting.greedy

    def wrong(decoder, source, **options):
        long = keras.ops.shape(source)[1] > 8
        return real(decoder, keras.ops.where(long, keras.ops.minimum(source, 9), source), **options)

    monkeypatch.setattr(exporting, "greedy", wrong)
    return made


def zeroed(made, monkeypatch):
    """Has lost a kernel."""
    model = keras.models.clone_model(made.model)
    model.set_weights(made.model.get_weights())
    layer = model.get_layer("decoder_0_ffn_out")
    layer.kernel.assign(0 * layer.kernel)
    return Translator(model, VOCABULARY, made.max_length)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *[(name, wrong) for name in ("t.tflite", "saved") for wrong in (short, forgetful, zeroed)],
        ("t8.tflite", short),
        ("t8.tflite", zeroed),
    ],
)
def test_files_that_translate_differently_are_not_written(tmp_path, monkeypatch, name, wrong):
    quantize = "dynamic_int8" if "8" in name else None
    made = translator(20)
    export_translator(made, tmp_path / name, quantize)
    other = wrong(made, monkeypatch)
    for part in ("_save_id_model", "_save_text_model"):
        save = getattr(exporting, part)
        monkeypatch.setattr(exporting, part, lambda _, *rest, save=save: save(other, *rest))
    with pytest.raises(ValueError, match="does not translate as the model does"):
        export_translator(made, tmp_path / f"new_{name}", quantize)
    assert not list(tmp_path.glob("new_*"))


def test_an_honest_int8_file_of_a_wider_student_passes(tmp_path):
    model = student(len(VOCABULARY), 2, 2, 64, 128, 4, decoder="self_attention", max_length=32)
    made = Translator(model, VOCABULARY, 32)
    assert export_translator(made, tmp_path / "t.tflite", "dynamic_int8").exists()


def test_wrong_calls(tmp_path):
    made = translator()
    for length in (0, -1, 1, 2.5, "8", True):
        with pytest.raises(ValueError, match="`max_length` must be an integer of at least 2"):
            Translator(made.model, VOCABULARY, max_length=length)
    with pytest.raises(ValueError, match="`path` must be a path"):
        export_translator(made, None)
    with pytest.raises(ValueError, match="`path` must be a path"):
        made.save(None)
    with pytest.raises(ValueError, match="`path` must be a path"):
        load_translator(None)
    with pytest.raises(ValueError, match="`translator` must be a Translator"):
        export_translator(made.model, tmp_path / "t.tflite")
    with pytest.raises(ValueError, match="`max_length` must be a positive integer, or None"):
        load_translator(tmp_path, max_length=0)
    for sentences in (None, 3, ["one", None]):
        with pytest.raises(ValueError, match="`sentences` must hold text"):
            made.translate(sentences)


def test_wrong_calls_of_a_vocabulary(tmp_path):
    (tmp_path / "empty.vocabulary").touch()
    with pytest.raises(ValueError, match="`path` must be a SentencePiece model"):
        Vocabulary.load(tmp_path / "empty.vocabulary")
    with pytest.raises(ValueError, match="`path` must be a path"):
        Vocabulary.load(None)
    size = len(VOCABULARY)
    for wrong in (size, -1):
        with pytest.raises(ValueError, match=f"`ids` must be from 0 to {size - 1}.*: {wrong}"):
            VOCABULARY.decode([4, wrong])
    for wrong in (None, 3):
        with pytest.raises(ValueError, match="`text` must hold text"):
            VOCABULARY.encode(wrong)
        with pytest.raises(ValueError, match="`texts` must hold text"):
            VOCABULARY.encode_all(wrong)
    with pytest.raises(ValueError, match="`sentences` must hold text. Received: 1"):
        Vocabulary.train([1, 2, 3])
    with pytest.raises(ValueError, match="`tokens_per_batch` must be a positive integer"):
        batches([("one", "two")], VOCABULARY, tokens_per_batch="many")


@pytest.mark.parametrize("kind", ["tflite", "vocabulary"])
def test_damaged_files_are_refused_or_read_but_never_crash(tmp_path, kind):
    made = translator()
    export_translator(made, tmp_path / "t.tflite")
    file = tmp_path / f"t.{kind}"
    whole = file.read_bytes()
    draw = np.random.default_rng(0)
    for number in range(40):
        content = bytearray(whole)
        content[int(draw.integers(len(content)))] ^= 1 << int(draw.integers(8))
        if number % 4 == 0:
            del content[int(draw.integers(len(content))) :]
        file.write_bytes(content)
        try:
            load_translator(file.with_suffix(".tflite"))
        except ValueError as error:
            assert "`path` must be a" in str(error)
