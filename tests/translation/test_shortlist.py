import keras
import numpy as np
import pytest

from tfprune.datasets import number_words
from tfprune.translation import Coverage, Shortlist, Vocabulary
from tfprune.translation.ibm_model_1 import ibm_model_1

TEXT = number_words("en", "es", count=300)
VOCABULARY = Vocabulary.train([t for pair in TEXT.train for t in pair], 330)
END, PAD = VOCABULARY.end_id, VOCABULARY.pad_id
SHORTLIST = Shortlist.train(TEXT.train, VOCABULARY, best=3, frequent=10)


def test_the_likeliest_translations_are_listed_first():
    encoded = [VOCABULARY.encode_all(side) for side in zip(*TEXT.train, strict=True)]
    table = ibm_model_1(list(zip(*encoded, strict=True)), iterations=2)
    shortlist = Shortlist.train(TEXT.train, VOCABULARY, best=3, frequent=4, iterations=2)
    likely = {}
    for source, target, p in zip(table.source, table.target, table.probability, strict=True):
        if target not in shortlist.frequent:
            likely.setdefault(int(source), []).append((-p, int(target)))
    lengths = set()
    letters = ~VOCABULARY.without_letters()
    for source in filter(letters.__getitem__, likely):
        expected = [target for _, target in sorted(likely[source])][:3]
        lengths.add(len(expected))
        assert shortlist.lists[source].tolist() == expected + [END] * (3 - len(expected))
    assert 3 in lengths
    assert (shortlist.lists[: VOCABULARY.unknown_id + 1] == END).all()


def test_frequent_pieces_are_the_most_frequent_ones_and_left_out_of_the_lists():
    ids = np.concatenate(VOCABULARY.encode_all([t for _, t in TEXT.train]))
    counts = np.bincount(ids, minlength=len(VOCABULARY))
    assert SHORTLIST.frequent.shape == (11,) and SHORTLIST.frequent[0] == END
    others = np.delete(counts, SHORTLIST.frequent)
    assert counts[SHORTLIST.frequent[1:]].min() >= others.max()
    assert not np.isin(SHORTLIST.lists, SHORTLIST.frequent[1:]).any()
    assert SHORTLIST.lists.shape == (330, 3) and SHORTLIST.lists.dtype == "int32"
    everything = Shortlist.train(TEXT.train, VOCABULARY, best=3, frequent=330)
    assert set(everything.frequent) == {END, *np.flatnonzero(counts)}


def test_digits_punctuation_and_what_was_never_seen_translate_as_themselves():
    pairs = [("page 12 (new)", "seite 12 (neu)"), ("page 3", "seite 3"), ("new", "neu")] * 5
    vocabulary = Vocabulary.train([t for pair in pairs for t in pair] + ["xyz"] * 9, 280)
    shortlist = Shortlist.train(pairs, vocabulary, best=1, frequent=0)
    # The snowman is spelled in bytes; the text has no x, y or z.
    for text in ("(12)", "3", "☃", "xyz"):
        ids = [i for i in vocabulary.encode(text) if vocabulary.decode([i])]
        assert ids and shortlist.lists[ids, 0].tolist() == ids, text
    # Two letters that are no translation of themselves.
    assert not set(vocabulary.encode("page")) <= set(shortlist.lists[vocabulary.encode("page"), 0])


def test_units_without_letters():
    vocabulary = Vocabulary.train(["page 12 (new) 1990s £", "12", "(3)", "§ 4a"] * 9, 281)
    found = vocabulary.without_letters()
    assert not found[:4].any() and found[4:260].all()  # Special units, and all bytes.
    units = [vocabulary.decode([i]) for i in range(260, len(vocabulary))]
    expected = [bool(u) and not any(map(str.isalpha, u)) for u in units]
    assert {"(", ")", "4", "§", "£"} <= set(units)
    assert found[260:].tolist() == expected


def test_candidates_of_a_sentence_do_not_depend_on_the_batch():
    encoded = [[*ids, END] for ids in VOCABULARY.encode_all([s for s, _ in TEXT.test[:6]])]
    longest = max(map(len, encoded))
    batch = np.array([ids + [PAD] * (longest - len(ids)) for ids in encoded], "int32")
    together = keras.ops.convert_to_numpy(SHORTLIST.candidates(batch))
    assert together.shape == (6, 11 + longest * 3)
    for ids, found in zip(encoded, together, strict=True):
        alone = keras.ops.convert_to_numpy(SHORTLIST.candidates(np.array([ids], "int32")))[0]
        expected = {*SHORTLIST.frequent, *SHORTLIST.lists[ids].ravel()}
        assert set(alone) == set(found) == expected


def test_coverage():
    # Two source pieces; all others call for nothing.
    lists = np.full((330, 1), END)
    one, two = VOCABULARY.encode("one")[-1], VOCABULARY.encode("two")[-1]
    lists[one] = VOCABULARY.encode("uno")[-1]
    shortlist = Shortlist(lists, [END, *VOCABULARY.encode("uno")[:-1]])
    uno, dos = len(VOCABULARY.encode("uno")), len(VOCABULARY.encode("dos"))
    assert one != two and VOCABULARY.encode("uno")[-1] not in VOCABULARY.encode("dos")
    absent = [("one", "uno"), ("two", "dos"), ("one", "")]
    known = np.isin(VOCABULARY.encode("dos"), shortlist.frequent).sum()
    pieces, sentences = shortlist.coverage(absent, VOCABULARY)
    assert pieces == pytest.approx((uno + known) / (uno + dos)) and sentences == 0.5
    assert SHORTLIST.covered == SHORTLIST.coverage(TEXT.train, VOCABULARY)
    larger = Shortlist.train(TEXT.train, VOCABULARY, best=8, frequent=10)
    assert SHORTLIST.covered.pieces < larger.covered.pieces <= 1


def test_files(tmp_path):
    SHORTLIST.save(tmp_path / "new" / "list.npz")
    again = Shortlist.load(tmp_path / "new" / "list.npz")
    np.testing.assert_array_equal(again.lists, SHORTLIST.lists)
    np.testing.assert_array_equal(again.frequent, SHORTLIST.frequent)
    assert again.covered == SHORTLIST.covered and repr(again) == repr(SHORTLIST)
    plain = Shortlist(SHORTLIST.lists, SHORTLIST.frequent)
    plain.save(tmp_path / "plain.npz")
    assert Shortlist.load(tmp_path / "plain.npz").covered is None
    with pytest.raises(ValueError, match="`path` must end in '.npz'"):
        SHORTLIST.save(tmp_path / "list.bin")
    with pytest.raises(ValueError, match="There is no file"):
        Shortlist.load(tmp_path / "other.npz")
    np.savez(tmp_path / "other.npz", weights=np.ones(3))
    with pytest.raises(ValueError, match="arrays 'lists' and 'frequent'.*Received: weights"):
        Shortlist.load(tmp_path / "other.npz")


def test_it_says_what_it_is():
    made = Shortlist(np.full((4000, 5), END), np.arange(20), Coverage(0.9876, 0.5))
    assert str(made) == (
        "Shortlist of 4,000 pieces: 20 are always candidates, 5 more for each source piece; 98.8% "
        "of the target pieces of the training text are covered, all of 50.0% of its sentences"
    )


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="`pairs` must hold at least one pair of 1 to 63"):
        Shortlist.train([("one", ""), ("", "uno")], VOCABULARY)
    with pytest.raises(
        ValueError, match="`pairs` must hold at least one pair of 1 to 2 tokens. Rec"
    ):
        Shortlist.train([("one two three four five six", "uno")], VOCABULARY, max_length=3)
    for name in ("best", "iterations"):
        with pytest.raises(ValueError, match=f"`{name}` must be a positive integer"):
            Shortlist.train(TEXT.train, VOCABULARY, **{name: 0})
    with pytest.raises(ValueError, match="`frequent` must be an integer, 0 or more"):
        Shortlist.train(TEXT.train, VOCABULARY, frequent=-1)
    other = Vocabulary.train([t for p in TEXT.train for t in p], 320)
    with pytest.raises(ValueError, match="`vocabulary` must be .* of 330 .* of 320 units"):
        SHORTLIST.coverage(TEXT.test, other)
    with pytest.raises(ValueError, match="`pairs` must hold at least one pair without"):
        SHORTLIST.coverage([("one", "")], VOCABULARY)
    lists = np.full((9, 2), END)
    with pytest.raises(ValueError, match="`lists` must be an array of ids with 2 axes"):
        Shortlist(lists[0], [END])
    with pytest.raises(ValueError, match="`frequent` must be an array of ids with 1 axis"):
        Shortlist(lists, [])
    with pytest.raises(ValueError, match="`frequent` must hold ids from 0 to 8.* from 2 to 9"):
        Shortlist(lists, [END, 9])
    with pytest.raises(ValueError, match="`frequent` must hold the end id, 2"):
        Shortlist(lists, [5])
    lists[PAD] = 6
    with pytest.raises(ValueError, match="`lists` must hold only pieces of `frequent`"):
        Shortlist(lists, [END])
