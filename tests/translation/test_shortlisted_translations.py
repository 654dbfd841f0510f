"""Translations with a shortlist are those of the whole student among the candidates."""

import keras
import numpy as np
import pytest

from tests.models import randomize
from tfprune.datasets import number_words
from tfprune.embeddings import factorize_embeddings
from tfprune.rebuild import rebuild
from tfprune.structures import find_structures
from tfprune.translation import (
    Shortlist,
    Translator,
    Vocabulary,
    export_translator,
    load_translator,
    student,
)
from tfprune.translation.encoding import padded
from tfprune.translation.searching import beam_search

pytestmark = pytest.mark.one_backend

TEXT = number_words("en", "es", count=300)
VOCABULARY = Vocabulary.train([t for pair in TEXT.train for t in pair], 330)
SIZE, START, END = len(VOCABULARY), VOCABULARY.start_id, VOCABULARY.end_id
FEW = Shortlist.train(TEXT.train, VOCABULARY, best=2, frequent=5)
# In no order, as the candidates of a sentence are.
ALL = Shortlist(FEW.lists, np.random.default_rng(0).permutation(SIZE))
SOURCES = sorted({s for s, _ in TEXT.test if len(VOCABULARY.encode(s)) < 12}, key=len)
SOURCES = [*SOURCES[:3], *SOURCES[-3:]]
ENCODED = [[*VOCABULARY.encode(s), END] for s in SOURCES]


def made(form="tied", decoder="ssru", seed=0):
    model = randomize(student(SIZE, 1, 1, 8, 12, 2, decoder=decoder, max_length=32), seed)
    if form == "pruned":
        for structure in find_structures(model):
            structure.scale(np.arange(structure.groups, dtype="float32") % 2)
        model = rebuild(model)
    if form == "factorized":
        model = factorize_embeddings(model, 4)
    if form == "dense":
        plain = keras.layers.Dense(SIZE, name="out")
        model = keras.Model(model.input, plain(model.get_layer("decoder_norm").output))
        randomize(model, seed)
    return model


def with_an_end():
    """A student that ends some translations before they are cut, after different lengths."""
    model = made(decoder="self_attention")
    table = keras.ops.convert_to_numpy(model.weights[0]).copy()
    table[END] = np.random.default_rng(1).normal(scale=1.2, size=8)
    model.weights[0].assign(table)
    return model


def searched(model, shortlist, encoded=ENCODED, **options):
    return Translator(model, VOCABULARY, 12, shortlist).search(encoded, **options)


def by_hand(model, source, shortlist):
    """Greedy search in the logits of the whole student, those of other pieces out of reach."""
    closed = np.full(SIZE, -np.inf)
    closed[shortlist.frequent] = closed[shortlist.lists[source]] = 0
    words = []
    while len(words) < 12 and END not in words:
        inputs = {"source": np.array([source]), "target": np.array([[START, *words]])}
        logits = keras.ops.convert_to_numpy(model(inputs))[0, -1]
        words.append(int(np.argmax(logits + closed)))
    return words


def test_translations_end():
    model = with_an_end()
    few = searched(model, FEW)
    assert few == [by_hand(model, source, FEW) for source in ENCODED]
    assert len({len(words) for words in few if words[-1] == END}) > 1


FORMS = [("tied", "ssru"), ("tied", "self_attention"), ("pruned", "ssru")]
FORMS += [("factorized", "ssru"), ("dense", "ssru")]


@pytest.mark.parametrize(("form", "decoder"), FORMS)
def test_words_are_the_likeliest_candidates(form, decoder):
    model = made(form, decoder)
    whole = searched(model, None)
    assert searched(model, ALL) == whole
    few = searched(model, FEW)
    assert few == [by_hand(model, source, FEW) for source in ENCODED]
    assert few != whole and len({tuple(words) for words in few}) > 1


def test_a_sentence_is_translated_alike_whatever_the_batch():
    model = with_an_end()
    together = searched(model, FEW)
    assert together == searched(model, FEW, batch_size=1) == searched(model, FEW, batch_size=4)
    for source, words in zip(ENCODED, together, strict=True):
        assert searched(model, FEW, [source]) == [words]


def test_of_equal_logits_the_lowest_id_is_chosen():
    model = made()
    table = keras.ops.convert_to_numpy(model.weights[0]).copy()
    # Pieces in pairs with the same row, the end left alone, which comes first.
    table[4::2] = table[5::2]
    model.weights[0].assign(table)
    assert searched(model, ALL) == searched(model, None)
    assert all(word < 4 or word % 2 == 0 for words in searched(model, ALL) for word in words)


@pytest.mark.parametrize("beam", [1, 3])
def test_beams(beam):
    model = with_an_end()
    assert searched(model, ALL, beam=beam) == searched(model, None, beam=beam)
    few = searched(model, FEW, beam=beam)
    if beam == 1:
        assert few == searched(model, FEW)
    source = padded(ENCODED)
    decoder = Translator(model, VOCABULARY, 12, FEW).decoder
    words, scores = map(keras.ops.convert_to_numpy, beam_search(decoder, source, beam))
    for source, ids, score in zip(ENCODED, words, scores, strict=True):
        # The probability among the different candidates, each counted once.
        open_ = np.unique([*FEW.frequent, *FEW.lists[source].ravel()])
        length = [*ids, END].index(END) + 1
        assert not ids[length:].any()
        ids = ids[:length]
        target = np.array([[START, *ids[:-1]]])
        logits = keras.ops.convert_to_numpy(
            model({"source": np.array([source]), "target": target})
        )[0].astype("float64")
        chosen = logits[np.arange(len(ids)), ids]
        expected = np.sum(chosen - np.log(np.exp(logits[:, open_]).sum(-1)))
        np.testing.assert_allclose(score, expected, rtol=1e-3, atol=1e-3)


def test_the_shortlist_is_kept_in_the_file(tmp_path):
    translator = Translator(made(), VOCABULARY, 12, FEW)
    translator.save(tmp_path / "t.keras")
    loaded = load_translator(tmp_path / "t.keras")
    np.testing.assert_array_equal(loaded.shortlist.lists, FEW.lists)
    assert loaded.shortlist.covered == FEW.covered
    assert loaded.translate(SOURCES) == translator.translate(SOURCES)


@pytest.mark.tensorflow_only
def test_a_saved_model_has_the_shortlist(tmp_path):
    translator = Translator(made(), VOCABULARY, 12, FEW)
    export_translator(translator, tmp_path / "saved")
    found = load_translator(tmp_path / "saved").translate(SOURCES)
    assert found == translator.translate(SOURCES)
    assert found != Translator(translator.model, VOCABULARY, 12).translate(SOURCES)
    with pytest.raises(ValueError, match="`translator` must have no shortlist"):
        export_translator(translator, tmp_path / "t.tflite")
    assert not (tmp_path / "t.tflite").exists()


def test_what_is_no_shortlist_of_the_vocabulary_is_refused():
    with pytest.raises(ValueError, match="`shortlist` must be a Shortlist, or None. Received: .*5"):
        Translator(made(), VOCABULARY, 12, 5)
    other = Shortlist(np.full((320, 1), END), [END])
    with pytest.raises(ValueError, match="`shortlist` must be made .* 320 units .* of 330"):
        Translator(made(), VOCABULARY, 12, other)
    model = made()
    doubled = keras.Model(model.input, keras.ops.multiply(model.output, 2.0))
    with pytest.raises(ValueError, match="`shortlist` needs a model .* by Multiply"):
        Translator(doubled, VOCABULARY, 12, FEW)
