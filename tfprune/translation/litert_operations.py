"""What LiteRT computes fastest, written so that TensorFlow's converter makes those operations."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from tfprune.translation.argmax import divisor


def take_as_embedding(table: Any, ids: Any, axis: int = 0) -> Any:
    """Rows of an embedding by LiteRT's own operation.

    It reads the int8 table that the output layer of a tied model reads too; a plain gather would
    bring a second one into the file.

    Args:
        table: Matrix `(vocabulary, width)`.
        ids: Ids `(…,)`.
        axis: 0.

    Returns:
        Rows `(…, width)`.
    """
    import tensorflow as tf

    flat = _rows()(tf.convert_to_tensor(table), tf.reshape(ids, [-1]))
    if len(ids.shape) == 1:
        return flat
    return tf.reshape(flat, tf.concat([tf.shape(ids), tf.shape(flat)[1:]], axis=0))


@functools.cache  # TensorFlow warns of functions that are made anew for each call.
def _rows():
    import tensorflow as tf

    # The converter knows the operation by this name.
    @tf.function(experimental_implements="embedding_matmul")
    def rows(table, ids):
        return tf.gather(table, ids)

    return rows


def take_as_is(weight: Any, ids: Any, axis: int) -> Any:
    """Rows of a weight, or numbers of a vector.

    Args:
        weight: Matrix or vector.
        ids: Ids `(…,)`.
        axis: The axis along which the weight has an entry for each id.

    Returns:
        Rows `(…, width)`, of a vector numbers `(…,)`.
    """
    import tensorflow as tf

    weight = tf.convert_to_tensor(weight)
    return tf.gather(tf.transpose(weight) if axis else weight, ids)


def take_quantized(weight: Any, ids: Any, axis: int) -> Any:
    """As `take_as_is`, from an int8 matrix with a scale for each row, as the converter quantizes.

    For hundreds of rows that takes less time than `take_as_embedding`. A vector stays as it is, and
    a matrix that is computed when the file runs.

    Args:
        weight: Matrix or vector.
        ids: Ids `(…,)`.
        axis: The axis along which the weight has an entry for each id.

    Returns:
        Rows `(…, width)`, of a vector numbers `(…,)`.
    """
    import tensorflow as tf

    weight = tf.convert_to_tensor(weight)
    # The converter would quantize what `gather` reads, a whole vector with one scale.
    places = tf.expand_dims(ids, -1)
    if len(weight.shape) == 1:
        return tf.gather_nd(weight, places)
    rows = tf.get_static_value(weight)
    if rows is None:
        return take_as_is(weight, ids, axis)
    rows = (rows.T if axis else rows).astype("float32")
    scales = np.abs(rows).max(axis=1, keepdims=True) / np.float32(127)
    # A row of zeros has no scale.
    quantized = np.rint(rows / np.where(scales, scales, 1)).astype("int8")
    found = tf.cast(tf.gather(tf.constant(quantized), ids), tf.float32)
    return tf.cast(found * tf.gather_nd(tf.constant(scales), places), weight.dtype)


def id_of_largest(values: Any, ids: Any = None) -> Any:
    """As `argmax.id_of_largest` for one sentence, but of equal numbers the first one counts.

    Without ids numbers are taken as a table of about as many rows as columns: the largest of each
    row is found by a fast operation, and the place by a slow one.

    Args:
        values: Tensor `(1, length)`.
        ids: The id of each number, `(length,)`, int32; by default its index, and the length must
            be known.

    Returns:
        Ids `(1,)`, int32.
    """
    import tensorflow as tf

    if ids is not None:
        return tf.gather(ids, tf.argmax(values, axis=-1, output_type=tf.int32))
    length = values.shape[-1]
    columns = divisor(length)
    table = tf.reshape(values, (length // columns, columns))
    row = tf.argmax(tf.reduce_max(table, axis=-1)[None], axis=-1, output_type=tf.int32)
    return row * columns + tf.argmax(tf.gather(table, row), axis=-1, output_type=tf.int32)
