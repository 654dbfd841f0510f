"""The examples from which value ranges are measured for `quantize="int8"`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.batches import no_arrays
from tfprune.export.inputs import input_names


def read_often(data: Any) -> Any:
    """`representative_data` that can be read for several files: what a generator gives, in a list.

    Args:
        data: As in `examples_of`, or `None`.
    """
    if callable(data) and not hasattr(data, "__iter__"):
        data = data()
    return list(data) if isinstance(data, Iterator) else data


def examples_of(model: keras.Model, data: Any) -> list[list[np.ndarray]]:
    """Examples as flat lists of arrays in the order of the model's inputs.

    Each has the size of a batch that the inputs fix, and is a single one where they leave it open.
    What is missing from the last batch is taken from the beginning.

    Args:
        model: A Functional model.
        data: `representative_data`, as `tfprune.export` takes it: arrays with examples along the
            first axis, in the structure of the inputs or by name; an iterable of such batches; or
            a function without arguments that returns one of these.

    Raises:
        ValueError: If there is no example, or one does not fit the model's inputs.
    """
    if data is None:
        raise ValueError(
            "`representative_data` is needed for quantize='int8': some examples of the inputs, "
            "from which value ranges are measured."
        )
    data = read_often(data)
    found = []
    for batch in list(data) if _is_batches(model, data) else [data]:
        arrays = [np.asarray(a) for a in _in_order(model, batch)]
        for array, spec in zip(arrays, model.inputs, strict=True):
            _check_shape(array, spec)
        sizes = sorted({len(array) for array in arrays})
        if len(sizes) > 1:
            raise ValueError(
                "`representative_data` must hold as many examples for one input as for the others. "
                f"Received: {sizes}"
            )
        arrays = [a.astype(s.dtype) for a, s in zip(arrays, model.inputs, strict=True)]
        found += [[a[i : i + 1] for a in arrays] for i in range(len(arrays[0]))]
    if not found:
        raise ValueError("`representative_data` must hold at least one example. Received: none")
    of_batches = {t.shape[0] for t in model.inputs if len(t.shape) and t.shape[0]}
    size = of_batches.pop() if len(of_batches) == 1 else 1
    starts = range(0, len(found), size)
    return [_joined([found[(start + i) % len(found)] for i in range(size)]) for start in starts]


def _joined(examples):
    """One batch of single examples."""
    shapes = {tuple(a.shape for a in arrays) for arrays in examples}
    if len(shapes) > 1:
        raise ValueError(
            "`representative_data` must hold examples of one size where several are a batch. "
            f"Received: {', '.join(map(str, sorted(shapes)))}; pad them, or pass batch_size=1."
        )
    return [np.concatenate(arrays) for arrays in zip(*examples, strict=True)]


def _is_batches(model, data) -> bool:
    """Whether data are an iterable of batches, not one batch."""
    if not isinstance(data, (np.ndarray, dict, tuple, list)):
        return True
    if not isinstance(data, list) or not data:
        return False
    if isinstance(data[0], (dict, tuple, list)):
        return True
    # Arrays: one for each input, or one for each batch of the only input.
    return len(model.inputs) == 1 and np.ndim(data[0]) == len(model.inputs[0].shape)


def _in_order(model, batch):
    """The arrays of a batch as the model's inputs are ordered; those of a dictionary by name."""
    if isinstance(batch, dict):
        names = input_names(model)
        if set(batch) != set(names):
            raise ValueError(
                f"`representative_data` must have the inputs {', '.join(map(repr, names))}. "
                f"Received: {', '.join(map(repr, batch)) or 'none'}"
            )
        return [batch[name] for name in names]
    found = no_arrays(batch)
    if found:
        raise ValueError(
            f"`representative_data` must hold arrays. Received: {found}; `numpy.asarray` makes an "
            "array of nested lists."
        )
    arrays = tree.flatten(batch)
    if len(arrays) != len(model.inputs):
        number = len(model.inputs)
        several = f"{number} arrays a batch, one for each input of the model"
        raise ValueError(
            f"`representative_data` must hold {several if number > 1 else 'one array a batch'}, "
            "without targets: of `(x, y)` give x alone. Received: "
            f"{len(arrays)}, of the shapes {', '.join(str(np.shape(a)) for a in arrays) or 'none'}"
        )
    return arrays


def _check_shape(array, spec):
    fits = array.ndim == len(spec.shape) and all(
        want in (None, got) for want, got in zip(spec.shape[1:], array.shape[1:], strict=False)
    )
    kinds = (np.number, np.bool_) if spec.dtype == "bool" else (np.number,)
    if not fits or not any(np.issubdtype(array.dtype, kind) for kind in kinds):
        raise ValueError(
            f"`representative_data` must have shape {spec.shape} for input {spec.name!r}. "
            f"Received: shape {array.shape}, dtype {array.dtype}"
        )
