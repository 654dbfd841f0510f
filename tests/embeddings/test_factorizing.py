import keras
import numpy as np
import pytest
from keras import layers

import tfprune
from tests.models import assert_same, noise, outputs, randomize
from tfprune import criteria
from tfprune.callbacks import DynamicSparsity, HardConcreteGates, ImportancePruning
from tfprune.datasets import number_words
from tfprune.gates.dynamic import at_size
from tfprune.translation import (
    Translator,
    Vocabulary,
    export_translator,
    load_translator,
    student,
)

pytestmark = pytest.mark.sampled

TEXT = [text for pair in number_words("en", "es", count=400).train for text in pair]
IDS = np.random.default_rng(0).integers(1, 30, (6, 5))


def classifier(mask_zero=False):
    ids = keras.Input((None,), dtype="int32")
    x = layers.Embedding(30, 12, mask_zero=mask_zero, name="words")(ids)
    x = layers.GlobalAveragePooling1D()(x)
    x = layers.Dense(8, "relu", name="hidden")(x)
    return randomize(keras.Model(ids, layers.Dense(3, name="out")(x)))


def translator():
    return randomize(student(40, 1, 1, model_dim=12, feed_forward_dim=8, num_heads=2))


PAIR = {"source": IDS.astype("int32"), "target": IDS[:, :4].astype("int32")}


def low_rank(model, name, rank):
    """Gives an embedding a table of that rank, so that nothing is lost."""
    table = model.get_layer(name).embeddings
    table.assign(noise(table.shape[0], rank) @ noise(rank, table.shape[1], seed=5))


@pytest.mark.parametrize("mask_zero", [False, True])
def test_an_embedding_of_low_rank_loses_nothing(mask_zero, capsys):
    model = classifier(mask_zero)
    low_rank(model, "words", 4)
    ids = np.where(np.arange(5) < 3, IDS, 0)
    small = tfprune.factorize_embeddings(model, 4)
    assert_same(outputs(model, ids), outputs(small, ids))
    assert capsys.readouterr().out == "words: rank 4 of 12, relative error 0.000\n"
    assert small.count_params() == model.count_params() - 30 * 12 + 4 * (30 + 12)


def test_a_tied_output_is_factorised_with_its_embedding(tmp_path):
    model = translator()
    low_rank(model, "embedding", 5)
    small = tfprune.factorize_embeddings(model, 5, verbose=0)
    assert_same(outputs(model, PAIR), outputs(small, PAIR))
    small.save(tmp_path / "small.keras")
    assert_same(
        outputs(small, PAIR), outputs(keras.saving.load_model(tmp_path / "small.keras"), PAIR)
    )


def test_the_error_is_that_of_the_best_product(capsys):
    model = classifier()
    table = np.array(keras.ops.convert_to_numpy(model.get_layer("words").embeddings))
    small = tfprune.factorize_embeddings(model, 6)
    words = small.get_layer("words")
    product = np.array(words.embeddings) @ np.array(words.kernel)
    values = np.linalg.svd(table, compute_uv=False)
    best = np.sqrt(np.sum(values[6:] ** 2))
    assert np.linalg.norm(table - product) == pytest.approx(best, rel=1e-4)
    assert f"relative error {best / np.linalg.norm(table):.3f}" in capsys.readouterr().out


def test_ranks_are_cut_like_other_groups(tmp_path):
    for model, x in ((classifier(), IDS), (translator(), PAIR)):
        wide = tfprune.factorize_embeddings(model, 8, verbose=0)
        (ranks,) = tfprune.find_structures(wide).select(["ranks"])
        assert ranks.groups == 8
        ranks.scale((np.arange(8) % 2).astype("float32"))
        small = tfprune.rebuild(wide)
        assert tfprune.find_structures(small).select(["ranks"])[0].groups == 4
        assert_same(outputs(wide, x), outputs(small, x))
        small.save(tmp_path / "small.keras")
        assert_same(
            outputs(small, x), outputs(keras.saving.load_model(tmp_path / "small.keras"), x)
        )
        ranks.scale(np.zeros(8, "float32"))  # One stays, of zeros.
        nothing = tfprune.rebuild(wide)
        assert tfprune.find_structures(nothing).select(["ranks"])[0].groups == 1
        assert_same(outputs(wide, x), outputs(nothing, x))


def test_importance_of_a_rank_is_leaving_it_out_to_first_order():
    model = tfprune.factorize_embeddings(classifier(), 6, verbose=0)
    model.compile("sgd", "mse")
    y = noise(6, 3)
    scores = criteria.gradient_importance(model, (IDS, y), batch_size=6)
    (ranks,) = tfprune.find_structures(model).select(["ranks"])
    table, step = np.array(ranks.slices[0].variable), 1e-2
    for rank in range(6):
        losses = []
        for sign in (-1, 1):
            changed = table.copy()
            changed[:, rank] *= 1 + sign * step
            ranks.slices[0].variable.assign(changed)
            losses.append(model.evaluate(IDS, y, verbose=0))
        ranks.slices[0].variable.assign(table)
        slope = abs(losses[1] - losses[0]) / (2 * step)
        assert scores(ranks)[rank] == pytest.approx(slope, rel=0.05, abs=1e-4)


@pytest.mark.parametrize(
    "callback",
    [
        lambda data: HardConcreteGates(["ranks"], tfprune.Sparsity(0.5), verbose=0),
        lambda data: ImportancePruning(["ranks"], tfprune.Sparsity(0.5), data, verbose=0),
    ],
)
def test_callbacks_prune_ranks(callback):
    model = tfprune.factorize_embeddings(classifier(), 8, verbose=0)
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    y = noise(6, 3)
    model.fit(IDS, y, epochs=8, batch_size=3, verbose=0, callbacks=[callback((IDS, y))])
    small = tfprune.rebuild(model)
    assert small.get_layer("words").rank == 4
    assert_same(outputs(model, IDS), outputs(small, IDS))


def test_every_size_has_its_ranks():
    model = tfprune.factorize_embeddings(translator(), 8, verbose=0)
    model.compile(
        keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    every = DynamicSparsity([1.0, 0.5], data=(PAIR, PAIR["target"]), verbose=0)
    model.fit(PAIR, PAIR["target"], epochs=4, batch_size=3, verbose=0, callbacks=[every])
    small = tfprune.rebuild(model, size=0.5)
    assert small.get_layer("embedding").rank == 4
    with at_size(model, 0.5):
        assert_same(outputs(model, PAIR), outputs(small, PAIR))


def test_keras_hub(tmp_path):
    keras_hub = pytest.importorskip("keras_hub")
    bert = keras_hub.models.BertBackbone(30, 1, 2, 12, 16, max_sequence_length=8)
    randomize(bert)
    x = {
        "token_ids": IDS.astype("int32"),
        "segment_ids": np.zeros_like(IDS, "int32"),
        "padding_mask": np.ones_like(IDS, "int32"),
    }
    table = next(w for w in bert.weights if w.shape == (30, 12))
    table.assign(noise(30, 4) @ noise(4, 12, seed=5))
    small = tfprune.factorize_embeddings(bert, {"token_embedding": 4}, verbose=0)
    assert type(small).__name__ == "BertBackbone"
    assert_same(outputs(bert, x), outputs(small, x))
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    assert_same(outputs(bert, x), outputs(loaded, x))
    (ranks,) = tfprune.find_structures(loaded).select(["ranks"])
    smaller = tfprune.rebuild(loaded, keep={ranks.name: np.arange(4) < 3})
    assert tfprune.find_structures(smaller).select(["ranks"])[0].groups == 3


@pytest.mark.tensorflow_only
def test_a_translator_with_fewer_ranks_is_exported(tmp_path):
    vocabulary = Vocabulary.train(TEXT, size=330)
    model = randomize(student(len(vocabulary), 1, 1, model_dim=12, feed_forward_dim=8, num_heads=2))
    small = tfprune.factorize_embeddings(model, 6, verbose=0)
    translator = Translator(small, vocabulary, max_length=12)
    path = export_translator(translator, tmp_path / "small.tflite")
    assert load_translator(path).translate(TEXT[:2]) == translator.translate(TEXT[:2])


def test_rows_and_ranks_together():
    vocabulary = Vocabulary.train(TEXT, size=330)
    model = randomize(student(len(vocabulary), 1, 1, model_dim=12, feed_forward_dim=8, num_heads=2))
    ranked = tfprune.factorize_embeddings(model, 6, verbose=0)
    small, fewer = tfprune.trim_vocabulary(ranked, vocabulary, TEXT[:2])
    assert small.get_layer("embedding").embeddings.shape == (len(fewer), 6)


def test_embeddings_that_compute_something_else_are_left():
    class Doubled(layers.Embedding):
        def call(self, inputs):
            return 2 * super().call(inputs)

    class Renamed(layers.Embedding):
        pass

    ids = keras.Input((None,), dtype="int32")
    added = Doubled(30, 12, name="doubled")(ids) + Renamed(30, 12, name="renamed")(ids)
    model = randomize(keras.Model(ids, added))
    low_rank(model, "renamed", 4)
    small = tfprune.factorize_embeddings(model, 4, verbose=0)
    assert type(small.get_layer("doubled")) is Doubled
    assert isinstance(small.get_layer("renamed"), tfprune.FactorizedEmbedding)
    assert_same(outputs(model, IDS), outputs(small, IDS))


@pytest.mark.parametrize("rank", [0, -1, 2.5, True, {}, {"nothing": 3}, 100])
def test_bad_ranks(rank):
    with pytest.raises(ValueError, match="`rank` must be"):
        tfprune.factorize_embeddings(classifier(), rank)


def test_what_is_no_model_and_no_rank():
    ids = keras.Input((3,), dtype="int32")
    model = keras.Model(ids, keras.layers.Embedding(20, 8, name="words")(ids))
    for wrong in (None, 3, keras.Sequential([keras.layers.Embedding(20, 8)])):
        with pytest.raises(ValueError, match="`model` must be"):
            tfprune.factorize_embeddings(wrong, 4)
    for rank in (None, True, 1.5, "x"):
        with pytest.raises(ValueError, match="`rank` must be a positive integer"):
            tfprune.factorize_embeddings(model, rank)
        with pytest.raises(ValueError, match=r"`rank\['words'\]` must be a positive integer"):
            tfprune.factorize_embeddings(model, {"words": rank})
    small = tfprune.factorize_embeddings(model, np.int64(4), verbose=0)
    assert tfprune.find_structures(small)[0].groups == 4
