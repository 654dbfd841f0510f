import numpy as np
import pytest

from tests.models import noise, randomize, transformer
from tfprune import criteria
from tfprune.criteria.examples import FirstExamples

pytestmark = pytest.mark.sampled


def test_batches_are_split_with_all_that_belongs_to_an_example():
    x, y = noise(45, 4), noise(45, 2, seed=1)
    model = randomize(transformer())
    whole = FirstExamples(model, ({"x": x, "more": x[:, :1]}, y, None), examples=42)
    parts = whole.split(8)
    assert [len(part[1]) for part in parts] == [8, 8, 8, 2, 8, 8]
    assert [len(part[1]) for part in whole] == [32, 10]
    assert parts.examples == 42
    seen = np.concatenate([part[0]["x"] for part in parts])
    order = np.argsort(seen[:, 0])
    np.testing.assert_array_equal(seen[order], x[:42][np.argsort(x[:42, 0])])
    for part in parts:
        np.testing.assert_array_equal(part[0]["more"], part[0]["x"][:, :1])
        rows = [int(np.flatnonzero((x == row).all(axis=1))[0]) for row in part[0]["x"]]
        np.testing.assert_array_equal(part[1], y[rows])


def test_batches_of_other_lengths_can_be_scored_in_parts():
    model = randomize(transformer())
    model.compile("sgd", "mse")
    batches = [(noise(12, n, 8, seed=n), noise(12, n, 3, seed=n + 1)) for n in (4, 6, 5)]
    data = FirstExamples(model, iter(batches), 36)
    found = criteria.gradient_importance(model, data)
    each = [criteria.gradient_importance(model, batch, batch_size=12) for batch in batches]
    for name in found:
        expected = np.mean([scores[name] for scores in each], axis=0)
        np.testing.assert_allclose(found[name], expected, rtol=1e-3, atol=1e-6)
