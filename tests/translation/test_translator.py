import warnings

import keras
import numpy as np
import pytest

from tests.models import randomize
from tfprune.datasets import number_words
from tfprune.rebuild import rebuild
from tfprune.structures import find_structures
from tfprune.translation import (
    SacreBleu,
    Translator,
    Vocabulary,
    batches,
    compile_student,
    distill,
    evaluate,
    export_translator,
    load_translator,
    student,
    words_per_second,
)
from tfprune.translation.searching import beam_search, greedy

pytestmark = pytest.mark.sampled

TEXT = number_words("en", "es", count=300)
VOCABULARY = Vocabulary.train([t for pair in TEXT.train for t in pair], 330)
SENTENCES = [s for s, _ in TEXT.test[:5]]


def translator(decoder="ssru", tied=False, max_length=12, seed=0):
    model = student(
        len(VOCABULARY),
        encoder_layers=1,
        decoder_layers=2,
        model_dim=8,
        feed_forward_dim=12,
        num_heads=2,
        decoder=decoder,
        tied_decoder_layers=tied,
        max_length=16,
    )
    return Translator(randomize(model, seed), VOCABULARY, max_length)


@pytest.mark.parametrize("decoder", ["ssru", "self_attention"])
@pytest.mark.parametrize("tied", [False, True])
def test_steps_give_the_logits_of_the_whole_sentence(decoder, tied):
    made = translator(decoder, tied)
    source = np.array([[4, 9, 30, 2], [7, 2, 0, 0]], "int32")
    target = np.array([[1, 11, 12, 50, 13], [1, 60, 12, 15, 99]], "int32")
    expected = keras.ops.convert_to_numpy(made.model({"source": source, "target": target}))
    memory, states = made.decoder.encode(source), made.decoder.start(2)
    for t in range(5):
        logits, states = made.decoder.step(target[:, t], t, memory, states)
        got = keras.ops.convert_to_numpy(logits)
        np.testing.assert_allclose(got, expected[:, t], rtol=1e-3, atol=1e-3)


def test_greedy_takes_the_likeliest_word():
    made = translator()
    source = np.array([[*VOCABULARY.encode(SENTENCES[0]), VOCABULARY.end_id]], "int32")
    words = keras.ops.convert_to_numpy(greedy(made.decoder, source))[0]
    target = np.array([[VOCABULARY.start_id, *words[:-1]]])
    logits = keras.ops.convert_to_numpy(made.model({"source": source, "target": target}))[0]
    length = int(np.argmax(words == VOCABULARY.end_id)) + 1 if VOCABULARY.end_id in words else 12
    chosen = logits[np.arange(length), words[:length]]
    np.testing.assert_allclose(chosen, logits[:length].max(-1), rtol=1e-3, atol=1e-3)


def test_a_rebuilt_student_translates_alike():
    made = translator()
    draw = np.random.default_rng(0)
    for s in find_structures(made.model):
        s.scale((draw.random(s.groups) < 0.5).astype("float32"))
    for name in ("decoder_0_cross_attention", "encoder_0_ffn_in"):
        s = find_structures(made.model)[name]
        s.scale(np.zeros(s.groups, "float32"))
    small = rebuild(made.model)
    assert "encoder_0_ffn_in" not in {layer.name for layer in small.layers}
    assert Translator(small, VOCABULARY, 12).translate(SENTENCES) == made.translate(SENTENCES)


def test_beam():
    made = translator()
    source = np.array([[*VOCABULARY.encode(SENTENCES[0]), VOCABULARY.end_id]], "int32")
    alone = keras.ops.convert_to_numpy(greedy(made.decoder, source))
    words, one = beam_search(made.decoder, source, 1)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(words), alone)
    words, four = beam_search(made.decoder, source, 4)
    assert float(four[0]) >= float(one[0]) - 1e-4
    # The score is the log-probability that the model gives to these words.
    words = keras.ops.convert_to_numpy(words)[0]
    length = int(np.argmax(words == VOCABULARY.end_id)) + 1 if VOCABULARY.end_id in words else 12
    target = np.array([[VOCABULARY.start_id, *words[: length - 1]]])
    logits = keras.ops.convert_to_numpy(made.model({"source": source, "target": target}))[0]
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = log_p[np.arange(length), words[:length]].sum()
    np.testing.assert_allclose(float(four[0]), expected, rtol=1e-3, atol=1e-3)


def test_odd_sentences():
    made = translator()
    assert made.translate([]) == []
    assert made.translate(["", "  "]) == ["", ""]
    with pytest.warns(UserWarning, match="1 of 1 sentences have more than 11 tokens"):
        assert len(made.translate(["one " * 500])) == 1
    with pytest.raises(ValueError, match="`sentences` must hold text"):
        made.translate([3])
    with pytest.raises(ValueError, match="`beam`"):
        made.translate(["one"], beam=0)
    with pytest.raises(ValueError, match="`vocabulary`"):
        Translator(made.model, Vocabulary.train([t for p in TEXT.train for t in p], 320))


def test_batches():
    options = {"tokens_per_batch": 100, "max_length": 40}
    data = batches(TEXT.train, VOCABULARY, seed=3, **options)
    again = batches(TEXT.train, VOCABULARY, seed=3, **options)
    np.testing.assert_array_equal(data[2][1], again[2][1])
    x, labels, weights = data[0]
    np.testing.assert_array_equal(weights, labels != 0)
    for source, target, label in zip(x["source"], x["target"], labels, strict=True):
        label = label[label != 0]
        assert label[-1] == VOCABULARY.end_id and source[source != 0][-1] == VOCABULARY.end_id
        np.testing.assert_array_equal(target[: len(label)], [VOCABULARY.start_id, *label[:-1]])
    assert all(a != b for a, b in zip(data[0][1].shape, data[1][1].shape, strict=True))
    assert sum(len(data[i][1]) for i in range(len(data))) == len(TEXT.train)
    data.on_epoch_end()
    resumed = batches(TEXT.train, VOCABULARY, seed=3, initial_epoch=1, **options)
    np.testing.assert_array_equal(data[4][1], resumed[4][1])
    with pytest.raises(ValueError, match="`pairs`"):
        batches([("", "")], VOCABULARY)


def test_batches_of_the_same_lengths_on_both_sides_have_less_padding():
    pairs = [("one " * a, "dos " * b) for a in range(1, 9) for b in range(1, 9)] * 5

    def padding(**options):
        data = batches(pairs, VOCABULARY, tokens_per_batch=400, max_length=40, **options)
        given = [data[i] for i in range(len(data))]
        sentences = sorted(tuple(row[row != 0]) for x, *_ in given for row in x["source"])
        return sentences, sum((x["source"] == 0).sum() + (y == 0).sum() for x, y, _ in given)

    sentences, longer = padding(length_multiple=4)
    again, both = padding(length_multiple=4, bucket_by="both")
    assert sentences == again
    assert both < 0.8 * longer
    with pytest.raises(ValueError, match="`bucket_by` must be"):
        padding(bucket_by="shorter")


def test_training_learns_and_bleu_is_logged():
    import sacrebleu

    model = student(
        len(VOCABULARY), 1, 1, model_dim=16, feed_forward_dim=32, num_heads=2, max_length=40
    )
    compile_student(model, learning_rate=1e-2, warmup_steps=10)
    bleu = SacreBleu(TEXT.dev[:10], VOCABULARY, max_length=40)
    data = batches(TEXT.train, VOCABULARY, tokens_per_batch=600)
    history = model.fit(data, epochs=4, verbose=0, callbacks=[bleu]).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    hypotheses = Translator(model, VOCABULARY, 40).translate([s for s, _ in TEXT.dev[:10]])
    expected = sacrebleu.corpus_chrf(hypotheses, [[t for _, t in TEXT.dev[:10]]]).score
    assert history["val_chrf"][-1] == pytest.approx(expected, abs=0.5)
    assert "version" in bleu.signatures[0]


def test_distillation_takes_the_teachers_words():
    class Upper:
        def translate(self, sentences, **_):
            return [s.upper() for s in sentences]

    assert distill(Upper(), [("a", "x"), ("", "y"), ("b", "z")], progress=False) == [
        ("a", "A"),
        ("b", "B"),
    ]
    result = evaluate(Upper(), [("a b c d", "A B C D")])
    assert result["bleu"] == pytest.approx(100)


@pytest.mark.tensorflow_only
def test_files_translate_alike(tmp_path):
    made = translator(max_length=40)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        expected = made.translate(SENTENCES)
    made.save(tmp_path / "t.keras")
    export_translator(made, tmp_path / "t.tflite")
    export_translator(made, tmp_path / "t8.tflite", "dynamic_int8")
    export_translator(made, tmp_path / "saved")
    for name in ("t.keras", "t.tflite", "saved"):
        assert load_translator(tmp_path / name, 40).translate([*SENTENCES, ""]) == [*expected, ""]
    assert len(load_translator(tmp_path / "t8.tflite").translate(SENTENCES)) == 5
    speeds = words_per_second(
        {"a": tmp_path / "t.tflite", "b": tmp_path / "t8.tflite"}, SENTENCES, rounds=2
    )
    assert speeds["a"]["time_ratio"] == 1.0 and speeds["b"]["words_per_second"] > 0
    (tmp_path / "t.vocabulary").unlink()
    with pytest.raises(ValueError, match="There is no file"):
        load_translator(tmp_path / "t.tflite")
    with pytest.raises(ValueError, match="There is none"):
        load_translator(tmp_path / "nothing")
    with pytest.raises(ValueError, match="`quantize`"):
        export_translator(made, tmp_path / "x.tflite", "int4")


@pytest.mark.tensorflow_only
def test_int8_files_hold_a_tied_embedding_once(tmp_path, monkeypatch):
    model = student(len(VOCABULARY), 1, 1, 64, 64, 2, max_length=16)
    made = Translator(randomize(model, scale=0.1), VOCABULARY, 12)
    once = export_translator(made, tmp_path / "once.tflite", "dynamic_int8").stat().st_size
    monkeypatch.setattr("tfprune.translation.exporting.take_as_embedding", None)
    twice = export_translator(made, tmp_path / "twice.tflite", "dynamic_int8").stat().st_size
    assert twice - once > 0.9 * 64 * len(VOCABULARY)


def test_vocabulary(tmp_path):
    VOCABULARY.save(tmp_path / "v")
    again = Vocabulary.load(tmp_path / "v")
    assert again.decode(again.encode("forty-two ☃")) == "forty-two ☃"  # bytes for the rest
    assert again.decode(np.array([1, *again.encode("forty-two"), 2, 0, 0])) == "forty-two"
    many = [f"{i} forty-two" for i in range(100)]  # by one call for all; few go one by one
    assert again.encode_all(many) == [again.encode(text) for text in many]
    assert again.encode_all(many[:2]) == again.encode_all(many)[:2]
    with pytest.raises(ValueError, match="`size`"):
        Vocabulary.train(["one two"], 5000)
    (tmp_path / "bad").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="which is none"):
        Vocabulary.load(tmp_path / "bad")
