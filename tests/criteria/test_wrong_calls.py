"""Wrong arguments of criteria: an error that names the argument and says what would be right."""

import keras
import numpy as np
import pytest

import tfprune
from tests.models import noise
from tfprune import criteria

pytestmark = pytest.mark.sampled

X, Y = noise(8, 4), noise(8, 1)


def model():
    inputs = [keras.Input((4,)), keras.layers.Dense(3, "relu"), keras.layers.Dense(1)]
    made = keras.Sequential(inputs)
    made.compile("sgd", "mse")
    return made


def importance(data=(X, Y), **options):
    return criteria.gradient_importance(model(), data, **options)


@pytest.mark.parametrize(
    "name, call",
    [
        ("structure", lambda: criteria.magnitude(3)),
        ("structure", lambda: criteria.magnitude(model())),
        ("structure", lambda: criteria.random()("hidden")),
        ("seed", lambda: criteria.random("x")),
        ("seed", lambda: criteria.random(-1)),
        ("seed", lambda: criteria.Random(None)),
        ("model", lambda: criteria.movement(3)),
        ("model", lambda: criteria.gradient_importance(3, (X, Y))),
        ("model", lambda: criteria.attention_confidence(3, X)),
        ("batch_size", lambda: importance(batch_size=0)),
        ("batch_size", lambda: importance(batch_size="x")),
        ("batch_size", lambda: criteria.attention_confidence(model(), X, batch_size=0)),
        ("structures", lambda: importance(structures="ffn")),
        ("structures", lambda: importance(structures=tfprune.find_structures(model()))),
        ("criterion", lambda: criteria.get(criteria.Magnitude)),
    ],
)
def test_what_is_wrong_is_named(name, call):
    with pytest.raises(ValueError, match=rf"`{name}` must be .*Received: (?s:.)*"):
        call()


@pytest.mark.parametrize(
    "data, message",
    [
        (X, "no targets"),
        ((X, None), "no targets"),
        ((X, Y[:5]), "different numbers of examples"),
        ((X[:0], Y[:0]), "no example"),
    ],
)
def test_arrays_that_no_loss_can_be_computed_on(data, message):
    with pytest.raises(ValueError, match=f"`data` must be .*{message}"):
        importance(data)


def test_a_criterion_whose_name_is_no_string():
    with pytest.raises(ValueError, match="with a `name`"):
        criteria.register_criterion(type("Mine", (criteria.Criterion,), {"name": 3}))


def test_scores_that_are_no_numbers():
    target = tfprune.Sparsity(0.5)
    for scores in (["a", "b", "c"], [1, 2], None, np.full(3, np.nan)):
        pruning = tfprune.callbacks.ImportancePruning(
            target=target, criterion=lambda structure, s=scores: s, verbose=0
        )
        with pytest.raises(ValueError, match="`scores` must give 3 numbers"):
            model().fit(X, Y, verbose=0, callbacks=[pruning])
