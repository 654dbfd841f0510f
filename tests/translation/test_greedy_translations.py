import keras
import numpy as np
import pytest

import tfprune
from tests.models import randomize
from tfprune.callbacks import HeadLottery
from tfprune.criteria import attention_confidence
from tfprune.datasets import number_words
from tfprune.translation import (
    GreedyTranslations,
    Translator,
    Vocabulary,
    batches,
    compile_student,
    student,
)

pytestmark = pytest.mark.sampled

TEXT = number_words("en", "es", count=100)
VOCABULARY = Vocabulary.train([t for pair in TEXT.train for t in pair], 330)
SOURCES = [s for s, _ in TEXT.dev if len(VOCABULARY.encode(s)) < 12][:5]


def translator_model(decoder="self_attention", seed=0, heads=2):
    model = student(len(VOCABULARY), 1, 1, 8, 12, num_heads=heads, decoder=decoder, max_length=16)
    return randomize(model, seed)


def by_hand(model, source):
    """Greedy search without any state: the whole beginning is read again for each word."""
    words = []
    while len(words) < 12 and VOCABULARY.end_id not in words:
        target = np.array([[VOCABULARY.start_id, *words]], "int32")
        logits = keras.ops.convert_to_numpy(model({"source": source, "target": target}))
        words.append(int(logits[0, -1].argmax()))
    return words


@pytest.mark.parametrize(("decoder", "seed"), [("ssru", 115), ("self_attention", 6)])
def test_confidence_is_that_of_the_heads_while_the_model_translates(decoder, seed):
    model = translator_model(decoder)
    # An end that some translations reach before they are cut.
    embedding = keras.ops.convert_to_numpy(model.weights[0]).copy()
    embedding[VOCABULARY.end_id] = np.random.default_rng(seed).normal(size=8)
    model.weights[0].assign(embedding)
    data = GreedyTranslations(model, VOCABULARY, SOURCES, max_length=12, batch_size=2)()

    found = attention_confidence(model, data)

    sources = [np.array([[*VOCABULARY.encode(s), VOCABULARY.end_id]], "int32") for s in SOURCES]
    translations = [by_hand(model, source) for source in sources]
    totals, words = dict.fromkeys(found, 0.0), dict.fromkeys(found, 0)
    for source, ids in zip(sources, translations, strict=True):
        target = np.array([[VOCABULARY.start_id, *ids[:-1]]], "int32")
        alone = attention_confidence(model, {"source": source, "target": target})
        for name, scores in alone.items():
            count = source.shape[1] if name.startswith("encoder") else len(ids)
            totals[name], words[name] = totals[name] + count * scores, words[name] + count
    assert len({len(ids) for ids in translations}) > 1
    assert data.words == sum(len(ids) for ids in translations)
    for name, scores in found.items():
        np.testing.assert_allclose(scores, totals[name] / words[name], rtol=1e-4, err_msg=name)


def test_each_call_translates_with_the_weights_of_that_moment():
    model = translator_model()
    translations = GreedyTranslations(model, VOCABULARY, SOURCES, max_length=12)

    def texts():
        return {VOCABULARY.decode(ids) for _, labels, _ in each(translations()) for ids in labels}

    first = texts()
    assert first == set(Translator(model, VOCABULARY, 12).translate(SOURCES))
    model.set_weights(translator_model(seed=1).get_weights())
    assert texts() == set(Translator(model, VOCABULARY, 12).translate(SOURCES)) != first


def each(data):
    return [data[i] for i in range(len(data))]


def test_a_lottery_judges_heads_on_them_in_each_round():
    model = compile_student(translator_model(heads=4), 1e-2, warmup_steps=5)
    translations, judged = GreedyTranslations(model, VOCABULARY, SOURCES, max_length=12), []

    def data():
        found = translations()
        judged.append(attention_confidence(model, found))
        return found

    lottery = HeadLottery(
        tfprune.Sparsity(0.5),
        3,
        data,
        start=1,
        round_length=2,
        check_every=1,
        verbose=0,
    )
    train = batches(TEXT.train, VOCABULARY, tokens_per_batch=400, max_length=16)
    model.fit(train, epochs=2, verbose=0, callbacks=[lottery])

    assert len(judged) == 1 + len(lottery.rounds) == 3  # Once before the first step.
    for name, scores in lottery.scores.items():
        np.testing.assert_allclose(scores, judged[-1][name], rtol=1e-5)
    assert set(lottery.scores.kinds.values()) == {"encoder", "decoder", "context"}
    assert any(not np.allclose(judged[0][name], judged[1][name], rtol=1e-3) for name in judged[0])


def test_sources_without_a_sentence_are_refused():
    for sources in ([], ["", " "]):
        with pytest.raises(ValueError, match="`sources` must hold at least one sentence"):
            GreedyTranslations(translator_model(), VOCABULARY, sources)
    with pytest.raises(ValueError, match="`sentences` must hold text"):
        GreedyTranslations(translator_model(), VOCABULARY, [3])
    two = GreedyTranslations(translator_model(), VOCABULARY, ["", SOURCES[0]], max_length=12)()
    assert sum(len(labels) for _, labels, _ in each(two)) == 1
