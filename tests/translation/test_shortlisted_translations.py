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
    exporting,
    load_translator,
    student,
)
from tfprune.translation.encoding import padded
from tfprune.translation.loading import LiteRTTranslator
from tfprune.translation.searching import beam_search, greedy, shortfalls

pytestmark = pytest.mark.sampled

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


@pytest.mark.tensorflow_only
@pytest.mark.parametrize(("form", "decoder"), FORMS)
def test_a_float_file_gives_the_ids_of_the_translator(tmp_path, form, decoder):
    translator = Translator(made(form, decoder), VOCABULARY, 12, FEW)
    file = LiteRTTranslator(export_translator(translator, tmp_path / "t.tflite"))
    for source, expected in zip(ENCODED, translator.search(ENCODED), strict=True):
        words = file.words(source)[0]
        np.testing.assert_array_equal(words[: len(expected)], expected)
        assert not words[len(expected) :].any()


def with_a_bias():
    """A student with many candidates of which the bias decides."""
    model = made("dense")
    model.layers[-1].bias.assign(np.random.default_rng(2).normal(scale=30, size=SIZE))
    return model


INT8 = [lambda: made(), lambda: made("factorized"), with_a_bias, with_an_end]


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("model", INT8, ids=["tied", "factorized", "with a bias", "with an end"])
def test_an_int8_file_chooses_likely_candidates(tmp_path, model):
    translator = Translator(model(), VOCABULARY, 12, FEW)
    file = LiteRTTranslator(export_translator(translator, tmp_path / "t.tflite", "dynamic_int8"))
    words = np.concatenate([file.words(source) for source in ENCODED])
    lost, chance, _ = map(np.asarray, shortfalls(translator.decoder, padded(ENCODED), words))
    there = np.cumsum(words == END, axis=1) - (words == END) == 0
    assert lost[there].mean() <= 0.03 * chance[there].mean()
    for source, ids, kept in zip(ENCODED, words, there, strict=True):
        assert set(ids[kept]) <= {*FEW.frequent, *FEW.lists[source].ravel()}


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("form", ["tied", "dense"])
@pytest.mark.parametrize("quantize", [None, "dynamic_int8"])
def test_a_file_is_larger_by_the_lists_alone(tmp_path, form, quantize):
    model = student(SIZE, 1, 1, 64, 12, 2, max_length=32)
    if form == "dense":
        plain = keras.layers.Dense(SIZE, name="out")
        model = keras.Model(model.input, plain(model.get_layer("decoder_norm").output))
    sizes = []
    for number, shortlist in enumerate((None, FEW)):
        path = tmp_path / f"{number}.tflite"
        translator = Translator(randomize(model, scale=0.1), VOCABULARY, 12, shortlist)
        sizes.append(export_translator(translator, path, quantize).stat().st_size)
    # A second table would take 64 bytes a piece and more.
    assert sizes[1] - sizes[0] < FEW.lists.nbytes + 24 * SIZE


@pytest.mark.tensorflow_only
@pytest.mark.parametrize(
    ("shortlist", "quantize"),
    [(ALL, "dynamic_int8"), (None, None), (Shortlist(np.full((SIZE, 1), END), [END]), None)],
    ids=["all", "none", "the end"],
)
def test_a_file_with_other_candidates_is_not_written(tmp_path, monkeypatch, shortlist, quantize):
    translator = Translator(made(), VOCABULARY, 12, FEW)
    save = exporting._save_id_model
    other = Translator(translator.model, VOCABULARY, 12, shortlist)
    monkeypatch.setattr(exporting, "_save_id_model", lambda _, *rest: save(other, *rest))
    with pytest.raises(ValueError, match="does not translate as the model does"):
        export_translator(translator, tmp_path / "t.tflite", quantize)
    assert not list(tmp_path.iterdir())


def test_shortfalls_are_those_among_the_candidates():
    model = made()
    words = np.random.default_rng(0).integers(3, SIZE, (len(ENCODED), 12)).astype("int32")
    words[:, ::2] = greedy(Translator(model, VOCABULARY, 12, FEW).decoder, padded(ENCODED))[:, ::2]
    target = np.concatenate([np.full((len(words), 1), START), words[:, :-1]], axis=1)
    decoder = Translator(model, VOCABULARY, 12, FEW).decoder
    lost, chance, _ = map(keras.ops.convert_to_numpy, shortfalls(decoder, padded(ENCODED), words))
    logits = keras.ops.convert_to_numpy(model({"source": padded(ENCODED), "target": target}))
    for i, source in enumerate(ENCODED):
        open_ = np.unique([*FEW.frequent, *FEW.lists[source].ravel()])
        best = logits[i][:, open_].max(-1)
        chosen = np.where(np.isin(words[i], open_), logits[i][np.arange(12), words[i]], -np.inf)
        np.testing.assert_allclose(lost[i], best - chosen, rtol=1e-3, atol=1e-3)
        mean = logits[i][:, open_].mean(-1)
        np.testing.assert_allclose(chance[i], best - mean, rtol=1e-3, atol=1e-3)
    assert np.isinf(lost).any() and np.isfinite(lost[:, 1::2]).any()


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
