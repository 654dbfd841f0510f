"""What masked scores of attention are in a file of int8 activations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import keras
import numpy as np

from tfprune.export.checking import outputs_of
from tfprune.keras_private.softmax import masked_scores_at

# 256 steps of int8 span the scores and this: the nearer to zero, the finer they are.
_VALUES = (-16.0, -32.0, -64.0, -128.0, -256.0)
# Examples on which that is tried.
_MOST = 64
# By how much outputs may change, as a share of the largest.
_SAME = 1e-3


@contextmanager
def masked_scores_in_range(
    model: keras.Model, examples: Sequence[Sequence[np.ndarray]]
) -> Iterator[None]:
    """Inside a `with` block masked scores are not so far below others that int8 loses those.

    Keras sets them to -1e9 or less, a softmax makes zero of that. In int8 the steps from there to
    the highest score would be millions wide, and all scores equal. The highest value is taken with
    which the model computes what it did; where none is, nothing is changed.

    Args:
        model: A Functional model.
        examples: Batches of inputs, flat lists of arrays.
    """
    value = _value(model, examples[:: -(-len(examples) // _MOST)])
    if value is None:
        yield
        return
    with masked_scores_at(value):
        yield


def _value(model, examples):
    want = [outputs_of(model, arrays) for arrays in examples]
    for value in _VALUES:
        with masked_scores_at(value) as asked:
            got = [outputs_of(model, arrays) for arrays in examples]
        if not asked:
            return None
        pairs = [pair for w, g in zip(want, got, strict=True) for pair in zip(w, g, strict=True)]
        if all(np.allclose(w, g, 0.0, _SAME * float(np.abs(w).max(initial=0.0))) for w, g in pairs):
            return value
    return None
