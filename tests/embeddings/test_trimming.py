import keras
import numpy as np
import pytest
from keras import layers

import tfprune
from tests.models import assert_same, outputs, randomize
from tfprune.datasets import number_words
from tfprune.embeddings import TrimmableTokenizer
from tfprune.embeddings.tokenizers import trimmable, used_by
from tfprune.gates import HardConcrete, attach
from tfprune.translation import Vocabulary, student

pytestmark = pytest.mark.sampled

COLOURS, ANIMALS = ("red", "blue", "green"), ("cat", "dog", "horse")
TEXT = [f"the {c} {a} sees {n} birds" for c in COLOURS for a in ANIMALS for n in ("one", "two")]
FEW = ["the red cat sees two birds", "the blue dog sees one birds"]
NUMBERS = [text for pair in number_words("en", "es", count=400).train for text in pair]


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary.train(NUMBERS, size=330)


def padded(ids):
    array = np.zeros((len(ids), max(map(len, ids))), "int32")
    for row, sequence in zip(array, ids, strict=True):
        row[: len(sequence)] = sequence
    return array


def word_piece():
    keras_hub = pytest.importorskip("keras_hub")
    words = sorted({w for text in TEXT for w in text.split()})
    letters = sorted({c for w in words for c in w})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *letters]
    return keras_hub.models.BertTokenizer([*pieces, *(f"##{c}" for c in letters), "##ds"])


@pytest.mark.parametrize("gated", [False, True])
def test_a_translator_says_the_same_in_fewer_words(vocabulary, gated):
    model = randomize(student(len(vocabulary), 1, 1, model_dim=8, feed_forward_dim=8, num_heads=2))
    if gated:
        gates = attach(model, [HardConcrete(s) for s in tfprune.find_structures(model)])
        gates[0].fix(np.array([0.0, 0.5], "float32"))

    small, fewer = tfprune.trim_vocabulary(model, vocabulary, NUMBERS[:2])

    assert 256 < len(fewer) < len(vocabulary)
    before, after = vocabulary.encode_all(NUMBERS[:2]), fewer.encode_all(NUMBERS[:2])
    assert [fewer.decode(ids) for ids in after] == NUMBERS[:2]
    pieces, left = vocabulary._processor, fewer._processor
    assert [pieces.id_to_piece(i) for i in before] == [left.id_to_piece(i) for i in after]
    assert (fewer.pad_id, fewer.start_id, fewer.end_id) == (0, 1, 2)
    assert fewer.encode("zebra") and fewer.decode(fewer.encode("zebra")) == "zebra"
    a = outputs(model, {"source": padded(before), "target": padded(before)})[0]
    b = outputs(small, {"source": padded(after), "target": padded(after)})[0]
    kept = [pieces.piece_to_id(left.id_to_piece(i)) for i in range(len(fewer))]
    assert_same([a[..., kept]], [b])


def test_bert_keeps_what_it_says_of_the_corpus(tmp_path):
    keras_hub = pytest.importorskip("keras_hub")
    tokenizer = word_piece()
    backbone = keras_hub.models.BertBackbone(
        tokenizer.vocabulary_size(), 1, 2, 8, 16, max_sequence_length=16
    )
    model = randomize(keras_hub.models.BertTextClassifier(backbone, num_classes=2))

    small, fewer = tfprune.trim_vocabulary(model, tokenizer, FEW)

    assert fewer.vocabulary_size() < tokenizer.vocabulary_size()
    assert fewer.get_vocabulary()[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert "horse" not in fewer.get_vocabulary() and "##ds" not in fewer.get_vocabulary()
    spelled = keras.ops.convert_to_numpy(fewer("horse"))
    assert [fewer.id_to_token(int(i)) for i in spelled] == ["h", "##o", "##r", "##s", "##e"]

    def inputs(tokenizer):
        ids = padded([np.array(tokenizer(text)) for text in FEW])
        return {
            "token_ids": ids,
            "segment_ids": np.zeros_like(ids),
            "padding_mask": (ids > 0).astype("int32"),
        }

    assert_same(outputs(model, inputs(tokenizer)), outputs(small, inputs(fewer)))
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    assert_same(outputs(small, inputs(fewer)), outputs(loaded, inputs(fewer)))


def test_texts_may_be_of_several_lengths():
    tokenizer = word_piece()
    longer = [TEXT[0], " ".join(TEXT), TEXT[0].split()[0]]
    used = np.zeros(tokenizer.vocabulary_size(), bool)
    for text in longer:
        used[np.array(tokenizer(text), "int64")] = True
    np.testing.assert_array_equal(used_by(trimmable(tokenizer), longer), used)
    assert 3 < used.sum() < len(used)


def test_logits_of_a_dense_layer_are_trimmed_too(vocabulary):
    ids = keras.Input((None,), dtype="int32")
    x = layers.Embedding(len(vocabulary), 8, name="words")(ids)
    model = randomize(keras.Model(ids, layers.Dense(len(vocabulary), name="logits")(x)))

    small, fewer = tfprune.trim_vocabulary(model, vocabulary, NUMBERS[:2])

    assert small.output_shape[-1] == len(fewer) == small.get_layer("words").input_dim
    assert small.get_layer("logits").bias.shape == (len(fewer),)


class Words:
    """A tokenizer of a user: whole words, of which the first stands for unknown ones."""

    def __init__(self, words):
        self.words = list(words)

    @property
    def size(self):
        return len(self.words)

    def encode_all(self, texts):
        numbers = {word: number for number, word in enumerate(self.words)}
        return [[numbers.get(word, 0) for word in text.split()] for text in texts]

    def always_kept(self):
        return np.arange(self.size) == 0

    def with_tokens(self, kept):
        return Words(w for w, stays in zip(self.words, kept, strict=True) if stays)


def test_any_tokenizer_with_the_four_members_is_trimmed():
    words = Words(["?", *sorted({w for text in TEXT for w in text.split()})])
    assert isinstance(words, TrimmableTokenizer)
    ids = keras.Input((None,), dtype="int32")
    model = randomize(keras.Model(ids, layers.Embedding(words.size, 8, name="words")(ids)))

    small, fewer = tfprune.trim_vocabulary(model, words, FEW)

    assert fewer.words == ["?", "birds", "blue", "cat", "dog", "one", "red", "sees", "the", "two"]
    before, after = (padded(w.encode_all(FEW)) for w in (words, fewer))
    assert_same(outputs(model, before), outputs(small, after))


def test_what_does_not_fit_is_said(vocabulary):
    model = student(len(vocabulary) + 1, 1, 1, model_dim=8, feed_forward_dim=8, num_heads=2)
    with pytest.raises(ValueError, match=f"an embedding of {len(vocabulary)} rows"):
        tfprune.trim_vocabulary(model, vocabulary, NUMBERS[:2])
    model = student(len(vocabulary), 1, 1, model_dim=8, feed_forward_dim=8, num_heads=2)
    with pytest.raises(ValueError, match="`corpus` must hold text"):
        tfprune.trim_vocabulary(model, vocabulary, [])
    with pytest.raises(ValueError, match="`tokenizer` must be a"):
        tfprune.trim_vocabulary(model, str.split, FEW)


@pytest.mark.parametrize(
    "corpus, message",
    [
        ("one two", "`corpus` must be texts.* a str"),
        (b"one two", "`corpus` must be texts.* a bytes"),
        (None, "`corpus` must be texts.* a NoneType"),
        (3, "`corpus` must be texts.* a int"),
        ({"one": "two"}, "`corpus` must be texts.* a dict"),
        ([1, 2], "`corpus` must hold strings. Received: 1"),
        (["one", None], "`corpus` must hold strings. Received: None"),
        ([b"one"], "`corpus` must hold strings. Received: b'one'"),
    ],
)
def test_what_is_no_corpus(corpus, message):
    vocabulary = Vocabulary.train(["one two three four five"] * 10, size=275)
    model = keras.Sequential(
        [keras.Input((3,), dtype="int32"), keras.layers.Embedding(len(vocabulary), 4)]
    )
    with pytest.raises(ValueError, match=message):
        tfprune.trim_vocabulary(model, vocabulary, corpus)
    with pytest.raises(ValueError, match="`model` must be a Keras model"):
        tfprune.trim_vocabulary(None, vocabulary, ["one"])
