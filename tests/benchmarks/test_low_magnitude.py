"""The model of tf_keras that tfmot prunes is the same as that of Keras 3, and trains the same."""

from pathlib import Path

import keras
import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

pytestmark = pytest.mark.tensorflow_only


@pytest.fixture
def work(monkeypatch, tmp_path):
    for package in ("tensorflow_model_optimization", "keras_hub"):
        pytest.importorskip(package)
    monkeypatch.syspath_prepend(BENCHMARKS)
    from small_minilm import Small

    return Small(tmp_path, 0, tiny=True)


def classifier_without_dropout(work):
    classifier = work.fresh(2)
    classifier.dropout = classifier.output_dropout.rate = 0.0
    draw = np.random.default_rng(0)  # The weights of a new model are so small that all is alike.
    classifier.set_weights([draw.normal(0, 0.5, w.shape) for w in classifier.get_weights()])
    return classifier


@pytest.mark.slow
def test_both_models_compute_the_same_before_and_after_training(work):
    from bert_tf_keras import furthest_apart, in_tf_keras
    from classifier import RATE, plain
    from low_magnitude import batches_of_ids
    from tfmot_tools import compile_classifier

    classifier = classifier_without_dropout(work)
    model, encoder = in_tf_keras(classifier)
    assert len(encoder) == 12
    data = work.batches(work.train, shuffle=True)
    assert len({x["token_ids"].shape for x, _ in (data[0], data[1])}) == 2
    some = [data[0], data[1]]
    assert furthest_apart(classifier, model, some) < 1e-4

    steps = 2 * len(data)
    ours = plain(classifier)
    work.compile(ours, steps)
    ours.fit(data, epochs=2, shuffle=False, verbose=0)
    assert furthest_apart(classifier, model, some) > 1e-3

    compile_classifier(model, steps, RATE, weight_decay=0.01)
    again = work.batches(work.train, shuffle=True)
    model.fit(batches_of_ids(again, 2), steps_per_epoch=len(again), epochs=2, verbose=0)
    assert furthest_apart(classifier, model, some) < 1e-3


def test_padding_does_not_count(work):
    from bert_tf_keras import INPUTS, as_ids, in_tf_keras

    classifier = classifier_without_dropout(work)
    model, _ = in_tf_keras(classifier)
    ids = as_ids(work.batches(work.train)[0][0])
    longer = [np.pad(a, ((0, 0), (0, 5))) for a in ids]
    np.testing.assert_allclose(model(longer), model(ids), atol=1e-4)
    seen = dict(zip(INPUTS, longer, strict=True)) | {"padding_mask": np.ones_like(longer[1])}
    assert np.abs(model([seen[n] for n in INPUTS]) - model(ids)).max() > 1e-3
    np.testing.assert_allclose(
        model([seen[n] for n in INPUTS]),
        keras.ops.convert_to_numpy(classifier(seen)),
        atol=1e-4,
    )
