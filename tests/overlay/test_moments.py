"""Sums over positions, against NumPy on all positions at once."""

import tracemalloc

import numpy as np
import pytest

from tests.models import noise
from tfprune.overlay.moments import Moments


def inputs(count, width):
    """Numbers that depend on one another, with means far from 0."""
    return noise(count, width) @ noise(width, width, seed=2) + np.linspace(-100, 100, width)


@pytest.mark.parametrize("width", [1, 255, 256, 257, 600])
def test_products_are_those_of_all_positions(width):
    x = inputs(50, width).astype("float32")
    moments = Moments(width)
    for rows in np.array_split(x, 3):
        moments.add(rows)
    x = x.astype("float64")
    np.testing.assert_allclose(moments.mean, x.mean(axis=0), rtol=1e-12)
    centred = x - x.mean(axis=0)
    np.testing.assert_allclose(moments.covariance(), centred.T @ centred / 50, atol=1e-9)
    np.testing.assert_allclose(moments.second(), x.T @ x / 50, atol=1e-9)


def test_memory_is_little_more_than_half_of_a_square_matrix():
    width = 1536
    square = 8 * width**2
    tracemalloc.start()
    try:
        moments = Moments(width)
        moments.add(noise(4, width))
        held, peak = tracemalloc.get_traced_memory()
        assert held < 0.6 * square and peak < 0.8 * square
        tracemalloc.reset_peak()
        moments.second()
        assert tracemalloc.get_traced_memory()[1] - held < 1.6 * square
    finally:
        tracemalloc.stop()
