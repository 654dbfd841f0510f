"""When what a file computes counts as what its model computes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tolerance:
    """How far a file may be from the model.

    Args:
        spread: Of what an output varies from example to example, as a share.
        scale: Of the largest value of the output, as a share, on top.
        unequal: Share of the integers or booleans of an output that may differ.
        rounds_weights: Whether weights are rounded to eight bits. What this alone does to the
            outputs of the model is allowed in any case.
    """

    spread: float
    scale: float
    unequal: float
    rounds_weights: bool = False


# Rounding alone. LiteRT and Keras add in another order.
FLOAT = Tolerance(1e-3, 2e-5, 0.0)
HALF = Tolerance(1e-2, 1e-2, 0.1)
# Measured on dense, convolutional, recurrent and transformer models with and without sigmoid and
# softmax: honest dynamic_int8 files are off by up to 0.02 of the spread; int8 files by up to 0.06,
# those with a softmax, whose step is 1/256 whatever its values are, by 0.4 of the spread and 0.03
# of the scale. Without one of their kernels nearly all are off by 0.2 to 10 times the spread.
QUANTIZED = {
    "float16": HALF,
    "dynamic_int8": Tolerance(0.2, 0.005, 0.25, rounds_weights=True),
    "int8": Tolerance(0.3, 0.015, 0.25, rounds_weights=True),
}


def difference(
    want: np.ndarray, got: np.ndarray, allowed: Tolerance, rounded: np.ndarray | None = None
) -> str | None:
    """What is wrong with an output of a file, `None` if nothing is.

    Args:
        want: The model's output, `(examples, ...)`.
        got: The file's.
        allowed: How far they may be apart.
        rounded: The model's output with rounded weights, from which it may be as far too.

    Returns:
        Words that follow the name of the output.

    Example:

    >>> want = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> difference(want, want + 1e-6, FLOAT)
    >>> difference(want, 0 * want, FLOAT)
    'differs from Keras by 4'
    """
    if want.shape != got.shape:
        return f"has the shape {got.shape} instead of {want.shape}"
    if not np.issubdtype(want.dtype, np.inexact):
        unequal = np.mean(want != got) if want.size else 0.0
        if unequal <= allowed.unequal:
            return None
        if want.dtype == bool or allowed in (FLOAT, HALF):
            return f"differs from Keras in {100 * unequal:.3g} % of its values"
    if not np.all(np.isfinite(got)):
        return "holds values that are not finite"
    want, got = (np.asarray(a, "float64") for a in (want, got))
    if not want.size:
        return None
    # Quantization is judged on all values together; one value that is wrong is a mistake otherwise.
    size = _root_mean_square if allowed in QUANTIZED.values() else _largest
    varies = size(want - want.mean(axis=0)) if len(want) > 1 else size(want)
    enough = allowed.spread * varies + allowed.scale * _largest(want) + 1e-9
    if rounded is not None:
        enough = max(enough, size(np.asarray(rounded, "float64") - want))
    if size(got - want) > enough:
        return f"differs from Keras by {_largest(got - want):.3g}"
    return None


def _root_mean_square(values) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _largest(values) -> float:
    return float(np.max(np.abs(values)))
