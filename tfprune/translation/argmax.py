"""The index of the largest of many numbers, by operations that LiteRT computes fast."""

from __future__ import annotations

from typing import Any

from keras import ops


def argmax(values: Any) -> Any:
    """The index of the largest number in each row, the first of equal ones.

    LiteRT has no operation for the `argmax` of Keras, which looks at the sign bit of zeros, and
    sorts for `top_k`. So a row is taken as a table of about as many rows as columns: first the row
    of the table that holds the largest number is found, and then its column.

    Args:
        values: Tensor `(batch, length)`; the length must be known.

    Returns:
        Indices `(batch,)`, int32.

    Example:

    >>> found = argmax(ops.convert_to_tensor([[1.0, 3.0, 3.0, 2.0]]))
    >>> ops.convert_to_numpy(found).tolist()
    [1]
    """
    length = values.shape[-1]
    columns = divisor(length)
    table = ops.reshape(values, (-1, length // columns, columns))
    row = _first_of_largest(ops.max(table, axis=-1))
    chosen = ops.take_along_axis(table, row[:, None, None], axis=1)
    return row * columns + _first_of_largest(ops.squeeze(chosen, axis=1))


def id_of_largest(values: Any, ids: Any = None) -> Any:
    """The id of the largest number in each row, the lowest id of equal ones.

    Args:
        values: Tensor `(batch, length)`.
        ids: The id of each number, `(batch, length)` or `(length,)`, int32; by default its index.

    Returns:
        Ids `(batch,)`, int32.

    Example:

    >>> values = ops.convert_to_tensor([[1.0, 3.0, 3.0, 2.0]])
    >>> found = id_of_largest(values, ops.convert_to_tensor([[2, 9, 5, 1]]))
    >>> ops.convert_to_numpy(found).tolist()
    [5]
    """
    if ids is None:
        return argmax(values)
    largest = ops.max(values, axis=-1, keepdims=True)
    # With NaN nothing is equal: the highest id, so that it is one of them.
    highest = ops.max(ids, axis=-1, keepdims=True)
    return ops.min(ops.where(values == largest, ids, highest), axis=-1)


def _first_of_largest(values: Any) -> Any:
    length = values.shape[-1]
    largest = ops.max(values, axis=-1, keepdims=True)
    # With NaN nothing is equal: the last, so that an index is in range.
    places = ops.where(values == largest, ops.arange(length, dtype="int32"), length - 1)
    return ops.min(places, axis=-1)


def divisor(length: int) -> int:
    """The largest divisor up to the square root."""
    return next(k for k in range(int(length**0.5), 0, -1) if length % k == 0)
