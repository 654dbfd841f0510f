import itertools
from collections import defaultdict

import numpy as np
import pytest

from tfprune.translation import ibm_model_1 as module
from tfprune.translation.ibm_model_1 import ibm_model_1


def by_hand(pairs, iterations):
    """The equation of the paper, place by place, with dictionaries."""
    t = defaultdict(lambda: 1.0)
    for _ in range(iterations):
        counts, totals = defaultdict(float), defaultdict(float)
        for source, target in pairs:
            for f, e in itertools.product(target, source):
                c = t[f, e] / sum(t[f, other] for other in source)
                counts[f, e] += c
                totals[e] += c
        t = defaultdict(float, {(f, e): c / totals[e] for (f, e), c in counts.items()})
    return t


def test_the_example_of_the_textbooks():
    # das Haus, the house; das Buch, the book; ein Buch, a book.
    das, haus, buch, ein = 1, 2, 3, 4
    the, house, book, a = 1, 2, 3, 4
    pairs = [([das, haus], [the, house]), ([das, buch], [the, book]), ([ein, buch], [a, book])]
    table = ibm_model_1(pairs, iterations=2)
    found = dict(zip(zip(table.source, table.target, strict=True), table.probability, strict=True))
    assert found[das, the] == pytest.approx(7 / 11)  # Worked out with pen and paper.
    assert found[das, house] == pytest.approx(2 / 11)
    assert (ein, house) not in found


@pytest.mark.parametrize("at_once", [1, 40, 1 << 22])
def test_probabilities_are_those_of_the_equation(monkeypatch, at_once):
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    draw = np.random.default_rng(0)
    # Few pieces, so that many occur more than once in a sentence.
    pairs = [
        (draw.integers(0, 7, draw.integers(1, 6)), draw.integers(0, 9, draw.integers(1, 6)))
        for _ in range(30)
    ]
    table = ibm_model_1(pairs, iterations=4)
    expected = by_hand(pairs, 4)
    assert len(table.source) == len(expected)
    for e, f, probability in zip(table.source, table.target, table.probability, strict=True):
        assert probability == pytest.approx(expected[f, e])
    np.testing.assert_allclose(np.bincount(table.source, table.probability), 1)
    order = table.source * 100 + table.target
    assert (np.diff(order) > 0).all()
