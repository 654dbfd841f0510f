"""Differences between methods and their standard errors, by hand."""

import numpy as np
import pytest

from benchmarks.paired import difference

OURS = {"0": [1, 0, 1, 1], "1": [1, 1, 1, 1]}
THEIRS = {"0": [0, 0, 1, 0], "1": [0, 1, 1, 1], "2": [0, 0, 0, 0]}


def test_the_error_holds_examples_and_seeds():
    # Seed by seed 0.5 and 0.25; example by example 1, 0, 0, 0.5.
    examples, seeds = np.std([1, 0, 0, 0.5], ddof=1) / 2, np.std([0.5, 0.25], ddof=1) / 2**0.5
    mean, error, count = difference(OURS, THEIRS)
    assert (mean, count) == (0.375, 2)
    assert error == pytest.approx(np.hypot(examples, seeds))


def test_one_seed_has_no_error_unless_it_is_that_of_the_examples():
    ours = {"0": OURS["0"]}
    assert difference(ours, THEIRS) == (0.5, None, 1)
    mean, error, _ = difference(ours, THEIRS, seeds_count=False)
    assert mean == 0.5 and error == pytest.approx(np.std([1, 0, 0, 1], ddof=1) / 2)
