import keras
import numpy as np
import pytest

from tfprune.translation import WordCrossEntropy, compile_student

pytestmark = pytest.mark.sampled


def model():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])


def rates(steps, **options):
    compile_student(compiled := model(), 1e-2, **options)
    schedule = compiled.optimizer._learning_rate
    return [float(schedule(step)) for step in steps]


def test_the_learning_rate_rises_and_falls_with_the_root():
    steps = np.array([0, 5, 9, 39, 399])
    expected = 1e-2 * np.minimum((steps + 1) / 10, np.sqrt(10 / (steps + 1)))
    np.testing.assert_allclose(rates(steps, warmup_steps=10), expected, rtol=1e-6)


def test_with_total_steps_it_falls_to_nothing():
    steps = np.array([0, 5, 10, 25, 40, 70, 100])
    expected = np.where(
        steps < 10, steps / 10, 0.5 * (1 + np.cos(np.pi * np.minimum((steps - 10) / 60, 1)))
    )
    np.testing.assert_allclose(
        rates(steps, warmup_steps=10, total_steps=70), 1e-2 * expected, rtol=1e-5, atol=1e-9
    )


@pytest.mark.parametrize(
    "options, name",
    [
        ({"learning_rate": 0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"warmup_steps": 0}, "warmup_steps"),
        ({"label_smoothing": 1}, "label_smoothing"),
        ({"warmup_steps": 10, "total_steps": 10}, "total_steps"),
    ],
)
def test_bad_numbers_are_named(options, name):
    compiled = model()
    with pytest.raises(ValueError, match=f"`{name}`.* Received"):
        compile_student(compiled, **options)
    assert not compiled.compiled


def test_loss_is_the_mean_over_words():
    logits = np.random.default_rng(0).normal(size=(2, 3, 5)).astype("float32")
    labels = np.array([[1, 2, 0], [3, 0, 0]])
    weights = (labels != 0).astype("float32")
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    for smoothing in (0.0, 0.1):
        per_word = -(1 - smoothing) * np.take_along_axis(log_p, labels[..., None], -1)[..., 0]
        per_word -= smoothing * log_p.mean(-1)
        expected = (per_word * weights).sum() / 3
        loss = WordCrossEntropy(smoothing)(labels, logits, sample_weight=weights)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(loss), expected, rtol=1e-5)
