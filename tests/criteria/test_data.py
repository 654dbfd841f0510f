"""What callbacks take as data: what `fit` takes, tried before the first step, never endless."""

import keras
import numpy as np
import pytest

import tfprune
from tests.models import assert_same, noise, outputs, randomize, transformer
from tfprune.callbacks import DynamicSparsity, HeadLottery, ImportancePruning
from tfprune.criteria import activation, attention_confidence, gradient_importance

pytestmark = pytest.mark.sampled

X, Y = noise(16, 3, 8), noise(16, 3, 3, seed=2)
HALF = tfprune.Sparsity(0.5)


def compiled():
    model = randomize(transformer())
    model.compile("adam", "mse")
    return model


def batches(x=X, y=Y):
    for start in range(0, len(x), 4):
        yield x[start : start + 4], y[start : start + 4]


def for_ever():
    while True:
        yield X[:4], Y[:4]


class Batches(keras.utils.PyDataset):
    """Batches that tell their shapes, as those of `tfprune.datasets` do."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return X[4 * index : 4 * index + 4], Y[4 * index : 4 * index + 4]

    def shape(self, index):
        return (4, 3, 8)


class Endless(keras.utils.PyDataset):
    num_batches = None

    def __getitem__(self, index):
        return X[:4], Y[:4]


WRONG = {
    "another width": (X[:, :, :4], Y),
    "targets of another shape": (X, Y[:, :2]),
    "no targets": X,
    "no examples": (X[:0], Y[:0]),
    "no batches": [],
    "four parts": (X, Y, Y, Y),
    "different numbers": (X, Y[:3]),
    "a function": lambda model: (X, Y),
    "text": "one two",
    "a number": 3,
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize(
    "callback",
    [
        lambda data: ImportancePruning(target=HALF, data=data, start=0.75, verbose=0),
        lambda data: DynamicSparsity(data=data, start=0.75, verbose=0),
        lambda data: HeadLottery(
            HALF, 1, data, criterion="gradient_importance", start=0.5, round_length=1, verbose=0
        ),
    ],
    ids=["importance", "dynamic", "lottery"],
)
def test_data_that_cannot_be_used_is_refused_before_the_first_step(callback, wrong):
    steps = []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_: steps.append(1))
    model = compiled()
    with pytest.raises(ValueError, match="`data` must"):
        callbacks = [callback(WRONG[wrong]), count]
        model.fit(X, Y, batch_size=4, epochs=2, verbose=0, callbacks=callbacks)
    assert not steps and len(model.weights) == 18


def test_data_for_confidence_is_tried_too():
    model = compiled()
    for wrong in (X[:, :, :4], X[:0], "one"):
        lottery = HeadLottery(HALF, 1, wrong, start=1, round_length=1, verbose=0)
        with pytest.raises(ValueError, match="`data` must"):
            model.fit(X, Y, epochs=4, verbose=0, callbacks=[lottery])


def test_a_dataset_of_batches_is_no_array():
    model = compiled()
    expected = gradient_importance(model, (X, Y), batch_size=4)
    for name, scores in gradient_importance(model, Batches()).items():
        np.testing.assert_allclose(scores, expected[name], rtol=1e-4, atol=1e-6)
    pruning = ImportancePruning(target=HALF, data=Batches(), verbose=0)
    model.fit(X, Y, verbose=0, callbacks=[pruning])
    assert pruning.reached == pytest.approx(0.5, abs=0.05)
    lottery = HeadLottery(HALF, 1, Batches(), start=1, round_length=1, check_every=1, verbose=0)
    model.fit(X, Y, batch_size=4, verbose=0, callbacks=[lottery])
    assert len(lottery.rounds) == 1


@pytest.mark.parametrize("endless", [Endless, for_ever], ids=["dataset", "generator"])
def test_what_may_not_end_needs_a_number_of_batches(endless):
    model = compiled()
    for function in (gradient_importance, attention_confidence):
        with pytest.raises(ValueError, match="`steps` must be given"):
            function(model, endless())
    with pytest.raises(ValueError, match="`batches` must be given"):
        pruning = ImportancePruning(target=HALF, data=endless(), verbose=0)
        model.fit(X, Y, verbose=0, callbacks=[pruning])
    pruning = ImportancePruning(target=HALF, data=endless(), batches=2, verbose=0)
    model.fit(X, Y, verbose=0, callbacks=[pruning])
    assert pruning.reached == pytest.approx(0.5, abs=0.05)
    expected = gradient_importance(model, (X[:4], Y[:4]))
    for name, scores in gradient_importance(model, endless(), steps=2).items():
        np.testing.assert_allclose(scores, expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.tensorflow_only
def test_a_dataset_that_repeats_needs_a_number_of_batches():
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4).repeat()
    with pytest.raises(ValueError, match="`steps` must be given"):
        gradient_importance(compiled(), data)
    model = compiled()
    expected = gradient_importance(model, (X, Y), batch_size=4)
    for name, scores in gradient_importance(model, data, steps=4).items():
        np.testing.assert_allclose(scores, expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("number", [0, -1, True, "x", 1.5])
def test_the_number_of_batches(number):
    with pytest.raises(ValueError, match="`batches` must be a positive integer"):
        ImportancePruning(target=HALF, data=(X, Y), batches=number)
    with pytest.raises(ValueError, match="`steps` must be a positive integer"):
        gradient_importance(compiled(), (X, Y), steps=number)


@pytest.mark.tensorflow_only  # On a CPU JAX multiplies no half-precision matrices.
def test_half_precision():
    """Scores under `mixed_float16` are those under float32, small gradients included."""
    plain = randomize(transformer())
    plain.compile("adam", lambda y, p: 1e-6 * keras.ops.mean(keras.ops.square(y - p), axis=-1))
    expected = gradient_importance(plain, (X, Y))
    keras.config.set_dtype_policy("mixed_float16")
    try:
        half = transformer()
        half.set_weights(plain.get_weights())
        half.compile("adam", lambda y, p: 1e-6 * keras.ops.mean(keras.ops.square(y - p), axis=-1))
        scores = gradient_importance(half, (X, Y))
        half.compile("adam", "mse")
        for callback in (
            ImportancePruning(target=HALF, data=(X, Y), start=0.5, verbose=0),
            DynamicSparsity([1.0, 0.5], data=(X, Y), verbose=0),
        ):
            half.fit(X, Y, epochs=2, verbose=0, callbacks=[callback])
    finally:
        keras.config.set_dtype_policy("float32")
    for name in expected:
        np.testing.assert_allclose(scores[name], expected[name], rtol=0.1, atol=1e-8)


@pytest.mark.slow
@pytest.mark.tensorflow_only
def test_a_task_of_keras_hub_takes_text():
    hub = pytest.importorskip("keras_hub").models
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad"]
    tokenizer = hub.BertTokenizer(vocabulary=words)
    preprocessor = hub.BertTextClassifierPreprocessor(tokenizer, sequence_length=4)
    backbone = hub.BertBackbone(7, 1, 2, 8, 16, max_sequence_length=4)
    task = hub.BertTextClassifier(backbone, num_classes=2, preprocessor=preprocessor)
    texts, labels = ["good", "bad", "good bad"] * 4, np.array([1, 0, 1] * 4)
    ready = preprocessor(texts, y=labels)
    expected = gradient_importance(task, ready)
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((texts, labels)).batch(6)
    for data in ((texts, labels), (np.array(texts), labels), dataset, dataset.map(preprocessor)):
        for name, scores in gradient_importance(task, data).items():
            np.testing.assert_allclose(scores, expected[name], rtol=1e-4, atol=1e-7)
    confidence = attention_confidence(task, ready[0])
    lottery = HeadLottery(HALF, 1, texts, start=1, round_length=1, check_every=1, verbose=0)
    task.fit(texts, labels, batch_size=4, epochs=2, verbose=0, callbacks=[lottery])
    assert set(lottery.scores) == set(confidence) and len(lottery.rounds) == 1
    pruning = ImportancePruning("ffn", target=HALF, data=(texts, labels), start=0.5, verbose=0)
    task.fit(texts, labels, batch_size=4, epochs=2, verbose=0, callbacks=[pruning])
    small = tfprune.rebuild(task)
    assert_same(outputs(task, ready[0]), outputs(small, ready[0]))
    # Units of 17 weights and of 11: which of them score lowest says how near half can be met.
    assert pruning.reached == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("data", "received"),
    [
        (lambda: X.tolist(), "list that holds float"),
        (lambda: (X, Y.tolist()), "tuple that holds float"),
        (lambda: {"x": X.tolist()}, "dict that holds float"),
        (lambda: (X, Y, 3), "tuple that holds int"),
        (lambda: np.float32(3), "float32"),
    ],
)
@pytest.mark.parametrize(
    "read",
    [
        lambda data: tfprune.prune(compiled(), HALF, data, verbose=0),
        lambda data: gradient_importance(compiled(), data),
        lambda data: activation(compiled(), data),
        lambda data: attention_confidence(compiled(), data),
        lambda data: compiled().fit(
            X, Y, verbose=0, callbacks=[ImportancePruning("ffn", target=HALF, data=data)]
        ),
    ],
    ids=["prune", "gradients", "inputs", "confidence", "callback"],
)
def test_lists_of_numbers_are_no_arrays(read, data, received):
    with pytest.raises(ValueError, match=f"`data` must hold arrays .* Received: {received}; `num"):
        read(data())


def test_batches_of_a_dataset_are_arrays_too():
    with pytest.raises(ValueError, match="such batches. Received: tuple that holds float"):
        tfprune.prune(compiled(), HALF, iter([(X, Y), (X.tolist(), Y)]), verbose=0)
    with pytest.raises(ValueError, match="`data` must be what `fit` takes.*object object"):
        tfprune.prune(compiled(), HALF, object(), verbose=0)
