import numpy as np
import pytest

from tests.models import noise
from tfprune.overlay.moments import Moments
from tfprune.repair.least_squares import fit


def moments(x):
    found = Moments(x.shape[1])
    for rows in np.array_split(x, 3):
        found.add(rows)
    return found


def inputs(count=200, width=8, seed=0):
    """Correlated, with a mean."""
    mixed = noise(count, width, seed=seed) @ noise(width, width, seed=seed + 1)
    return (mixed + np.arange(width)).astype("float32")


STAYS = np.array([1, 1, 0, 1, 0, 0, 1, 1], bool)


@pytest.mark.parametrize("has_bias", [True, False])
def test_it_is_what_lstsq_gives(has_bias):
    x, kernel = inputs(), noise(8, 3, seed=5)
    result = fit(moments(x), kernel, STAYS, has_bias, ridge=0.0)
    wanted = x.astype("float64") @ kernel
    read = np.hstack([x[:, STAYS], np.ones((len(x), 1))]) if has_bias else x[:, STAYS]
    solved = np.linalg.lstsq(read.astype("float64"), wanted, rcond=None)[0]
    np.testing.assert_allclose(result.kernel[STAYS], solved[:5], rtol=1e-5, atol=1e-6)
    assert not result.kernel[~STAYS].any()
    if has_bias:
        np.testing.assert_allclose(result.bias_change, solved[5], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("has_bias", [True, False])
def test_errors_are_those_that_are_made(has_bias):
    x, kernel = inputs(), noise(8, 3, seed=5)
    wanted = x.astype("float64") @ kernel

    def error(kernel, bias=0.0):
        return np.mean(np.sum((x.astype("float64") @ kernel + bias - wanted) ** 2, axis=1))

    bias_alone = fit(moments(x), kernel, STAYS, has_bias, "bias")
    fitted = fit(moments(x), kernel, STAYS, has_bias)
    cut = np.where(STAYS[:, None], kernel, 0.0)
    found = [error(cut), error(bias_alone.kernel, bias_alone.bias_change)]
    found.append(error(fitted.kernel, fitted.bias_change))
    np.testing.assert_allclose(fitted.errors, found, rtol=1e-5)
    assert found[2] < found[1] <= found[0]
    np.testing.assert_allclose(fitted.variance, np.sum(wanted.var(axis=0)), rtol=1e-6)


def test_the_mean_goes_into_the_bias():
    x, kernel = inputs(), noise(8, 3, seed=5)
    result = fit(moments(x), kernel, STAYS, how="bias")
    np.testing.assert_allclose(result.kernel[STAYS], kernel[STAYS])
    mean = x.mean(axis=0, dtype="float64")
    np.testing.assert_allclose(result.bias_change, mean[~STAYS] @ kernel[~STAYS], rtol=1e-5)


def test_what_others_repeat_is_lost_without_an_error():
    x = inputs()
    x[:, 2], x[:, 4], x[:, 5] = x[:, 0], 2 * x[:, 1] - x[:, 3], 7.0
    result = fit(moments(x), noise(8, 3, seed=5), STAYS, ridge=1e-9)
    assert result.errors[2] < 1e-6 * result.variance < result.errors[0]


def test_few_positions_are_held_up_by_the_ridge():
    x, kernel = inputs(count=3), noise(8, 3, seed=5)
    result = fit(moments(x), kernel, STAYS)
    assert np.isfinite(result.kernel).all() and result.errors[2] <= result.errors[1]
    assert np.abs(result.kernel).max() < 10 * np.abs(kernel).max()


@pytest.mark.parametrize("stays", [np.zeros(8, bool), np.ones(8, bool)])
def test_all_or_nothing_stays(stays):
    x, kernel = inputs(), noise(8, 3, seed=5)
    result = fit(moments(x), kernel, stays)
    np.testing.assert_allclose(result.kernel, kernel * stays[0])
    mean = (x.astype("float64") @ kernel).mean(axis=0)
    np.testing.assert_allclose(result.bias_change, 0 if stays[0] else mean, rtol=1e-5)


def test_a_mean_that_is_large_takes_no_digits():
    x = noise(100_000, 4, seed=3).astype("float64")
    found = moments((x + 1e4).astype("float32"))
    rounded = (x + 1e4).astype("float32").astype("float64")
    np.testing.assert_allclose(found.covariance(), np.cov(rounded.T, bias=True), rtol=1e-9)
    np.testing.assert_allclose(found.mean, rounded.mean(axis=0), rtol=1e-12)
    assert found.count == 100_000
