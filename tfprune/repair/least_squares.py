"""Weights that read fewer inputs, fitted so that they give what they gave with all of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tfprune.overlay.moments import Moments

RIDGE = 1e-3


class Fit(NamedTuple):
    """A kernel fitted to fewer inputs.

    Args:
        kernel: The kernel `(inputs, outputs)`; rows of inputs that are gone are zero.
        bias_change: What is added to the bias, `(outputs,)`; zeros if there is none.
        errors: Mean squared error of the outputs, summed over them: of the kernel without the rows,
            of the same with its bias corrected, and of this fit.
        variance: The variance of the outputs with all inputs, summed over them.
    """

    kernel: np.ndarray
    bias_change: np.ndarray
    errors: tuple[float, float, float]
    variance: float


def fit(
    moments: Moments,
    kernel: np.ndarray,
    stays: np.ndarray,
    has_bias: bool = True,
    how: str = "least_squares",
    ridge: float = RIDGE,
) -> Fit:
    """Fits a kernel to the inputs that stay.

    With the inputs that stay K and those that go R, centred, and S their products:
    `W'_K = W_K + (S_KK + λI)⁻¹ S_KR W_R`, `b' = b + μ_R W_R − μ_K (W'_K − W_K)`. Without a bias the
    same with products that are not centred, and no second line. The error is never larger than
    without a fit, on the inputs that the moments are of.

    Args:
        moments: Of all inputs.
        kernel: The kernel `(inputs, outputs)`.
        stays: Boolean array `(inputs,)`.
        has_bias: Whether there is a bias to correct.
        how: `"least_squares"`, or `"bias"`, which corrects the bias alone.
        ridge: λ as a share of the mean diagonal of `S_KK`.

    Source: Kwon et al., "A Fast Post-Training Pruning Framework for Transformers", 2022, section
    4.3; the bias as in An et al., "Fluctuation-based Adaptive Structured Pruning", 2023, section
    3.3.
    """
    kernel = np.asarray(kernel, "float64")
    gone = ~stays
    products = moments.covariance()
    variance = float(np.sum(kernel * (products @ kernel)))
    if not has_bias:
        products = moments.second()
    lost = kernel[gone]
    kk, kr = products[np.ix_(stays, stays)], products[np.ix_(stays, gone)]
    # Of an error E = X_R W_R − X_K Δ: tr(W_Rᵀ S_RR W_R) − 2 tr(Δᵀ S_KR W_R) + tr(Δᵀ S_KK Δ).
    target = kr @ lost
    alone = max(float(np.sum(lost * (products[np.ix_(gone, gone)] @ lost))), 0.0)
    change = np.zeros((int(stays.sum()), kernel.shape[1]))
    error = alone
    if how == "least_squares" and stays.any() and gone.any():
        scale = max(float(np.trace(kk)) / len(kk), 1e-30)
        held = kk.copy()
        held.flat[:: len(kk) + 1] += ridge * scale
        solved = np.linalg.solve(held, target)
        after = alone - 2 * float(np.sum(solved * target)) + float(np.sum(solved * (kk @ solved)))
        if np.isfinite(after) and after <= alone:
            change, error = solved, max(after, 0.0)
    fitted = np.zeros_like(kernel)
    fitted[stays] = kernel[stays] + change
    mean = moments.mean
    bias_change = np.zeros(kernel.shape[1])
    without = alone
    if has_bias:
        shifts = mean[gone] @ lost
        bias_change = shifts - mean[stays] @ change
        without = alone + float(np.sum(shifts**2))
    return Fit(fitted, bias_change, (without, alone, error), variance)
