"""The data that criteria look at: what `fit` takes, and what `fit` would do to it first."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.arguments import integer
from tfprune.batches import STRUCTURES, each_batch, no_arrays


def check_data(data: Any, batches: int | None, name: str = "batches") -> None:
    """Refuses what cannot be data, and what would never end.

    Args:
        data: What the user has given.
        batches: How many batches of it are wanted; `None` means all.
        name: The name of that argument, for the message.

    Raises:
        ValueError: If `data` is nothing that `fit` takes, or is endless and `batches` is `None`.
    """
    can_be = is_arrays(data) or hasattr(data, "__iter__") or isinstance(data, keras.utils.PyDataset)
    if data is None or isinstance(data, (str, bytes)) or not can_be:
        raise ValueError(
            "`data` must be what `fit` takes: arrays, or a dataset of batches. Received: "
            f"data={data!r}"
        )
    integer(name, batches, optional=True)
    if batches is None and _may_be_endless(data):
        raise ValueError(
            f"`{name}` must be given where `data` does not end or does not tell whether it does, "
            "as a dataset that repeats or a generator: how many batches of it to look at. "
            f"Received: {name}=None, data={type(data).__name__}"
        )


def is_function(data: Any) -> bool:
    """Whether data are a function, not a dataset that can be called as well."""
    return callable(data) and not hasattr(data, "__iter__")


def _may_be_endless(data) -> bool:
    if isinstance(data, keras.utils.PyDataset):
        return data.num_batches is None
    if hasattr(data, "cardinality"):  # A `tf.data.Dataset`; -1 means that it has no end.
        return int(data.cardinality()) == -1
    return hasattr(data, "__next__")


def is_arrays(data: Any) -> bool:
    """Whether data are arrays with examples along the first axis, not a dataset of batches."""
    if isinstance(data, keras.utils.PyDataset):  # It may have a method of the name `shape`.
        return False
    return isinstance(data, STRUCTURES) or hasattr(data, "shape")


def check_arrays(model: keras.Model, data: Any) -> None:
    """Refuses lists of numbers, and whatever else stands where an array should.

    A dataset is left alone, and so are data that the model's own `fit` encodes first.

    Args:
        model: The model.
        data: What its `fit` takes.

    Raises:
        ValueError: If there is such a list.
    """
    encodes = getattr(model, "preprocess_samples", None) is not None
    if is_arrays(data) and not (encodes and not _is_preprocessed(model, data)):
        _refuse_others(data)


def _refuse_others(data):
    found = no_arrays(data)
    if found:
        raise ValueError(
            "`data` must hold arrays with examples along the first axis, or be a dataset of such "
            f"batches. Received: {found}; `numpy.asarray` makes an array of nested lists."
        )


def shares_examples(data: Any, trained: Any) -> bool:
    """Whether data are what a fit trains on, or arrays that lie in the same memory.

    Equal copies, and datasets that were made of the same examples, are not noticed.

    Args:
        data: What the user has given: a dataset, x, or `(x, y)`.
        trained: The `x` that `fit` was given.
    """
    x = data[0] if isinstance(data, tuple) and data else data
    if data is trained or x is trained:
        return trained is not None
    if not is_arrays(x) or not is_arrays(trained):
        return False
    theirs = [a for a in tree.flatten(trained) if isinstance(a, np.ndarray)]
    # A mask or the like may be the same for all examples: only all inputs together tell.
    return bool(theirs) and all(
        isinstance(a, np.ndarray) and any(_share_memory(a, b) for b in theirs)
        for a in tree.flatten(x)
    )


def _share_memory(a, b) -> bool:
    try:
        return np.shares_memory(a, b, max_work=10_000)  # type: ignore[arg-type]  # NumPy's own: 0 or -1.
    except np.exceptions.TooHardError:
        return False


def as_the_layers_take_it(model: keras.Model, data: Any, batches: int | None, size: int) -> Any:
    """Does what the model's own `fit` does to data first, as KerasHub's tasks encode text.

    Args:
        model: The model.
        data: What its `fit` takes.
        batches: How many batches of it are wanted; `None` means all.
        size: Examples in a batch, where `data` are arrays.

    Returns:
        Data of the same kind; a list of batches for a generator.

    Raises:
        ValueError: As `check_arrays`.
    """
    check_arrays(model, data)
    preprocess = getattr(model, "preprocess_samples", None)
    if preprocess is None or _is_preprocessed(model, data):
        return data
    if is_arrays(data):
        parts = data if isinstance(data, (tuple, list)) and not _is_text(data) else (data,)
        if batches is not None:
            parts = [_first(part, batches * size) for part in parts]
        done = preprocess(*parts)
        return tree.map_structure(keras.ops.convert_to_numpy, done)
    if hasattr(data, "map"):
        return data.map(lambda *parts: preprocess(*parts))
    return [
        preprocess(*(batch if isinstance(batch, tuple) else (batch,)))
        for batch in itertools.islice(each_batch(data), batches)
    ]


def _is_text(x) -> bool:
    return isinstance(x, list) and len(x) > 0 and isinstance(x[0], (str, bytes))


def _is_preprocessed(model, data) -> bool:
    """Whether the inputs are those of the layers already, a dictionary with their names."""
    if isinstance(data, keras.utils.PyDataset):
        data = data[0] if data.num_batches else None
    elif not is_arrays(data):
        # A look at a `tf.data.Dataset` does not use it up, unlike one at a generator.
        data = getattr(data, "element_spec", None)
    x = data[0] if isinstance(data, (tuple, list)) and len(data) else data
    names = {t.name for t in getattr(model, "inputs", None) or ()}
    return isinstance(x, Mapping) and set(x) == names


def _first(part, number):
    if isinstance(part, Mapping):
        return {key: _first(value, number) for key, value in part.items()}
    if isinstance(part, tuple):
        return tuple(_first(value, number) for value in part)
    return part if part is None else part[:number]


def first_batch(data: Any, size: int, only_x: bool = False) -> tuple[Any, Any, Any]:
    """The first batch of data: x, y and sample weights.

    Args:
        data: Arrays or a dataset of batches, as the layers of the model take it.
        size: Examples in it, where `data` are arrays.
        only_x: Whether arrays that are no tuple are x alone.

    Raises:
        ValueError: If there is none, or arrays have different numbers of examples.
    """
    if is_arrays(data):
        if not isinstance(data, tuple) and (only_x or not isinstance(data, list)):
            data = (data,)
        numbers = {len(part) for part in tree.flatten(data) if part is not None}
        if len(numbers) > 1:
            raise ValueError(f"its arrays have different numbers of examples: {sorted(numbers)}")
        if not numbers or 0 in numbers:
            raise ValueError("it holds no example")
        batch = tree.map_structure(lambda part: None if part is None else part[:size], data)
    else:
        batch = next(iter(each_batch(data)), None)
        if batch is None:
            raise ValueError("it holds no batch")
    parts = tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
    if not 1 <= len(parts) <= 3:
        raise ValueError(f"it must be x, (x, y) or (x, y, sample_weight), not {len(parts)} parts")
    return (*parts, *[None] * (3 - len(parts)))


def batches_of(data: Any, size: int) -> Iterator[tuple]:
    """The batches of data, each a tuple of x, perhaps y and perhaps sample weights.

    Args:
        data: Arrays, of which only a tuple has y, or a dataset of batches.
        size: Examples in a batch, where `data` are arrays.

    Raises:
        ValueError: If a batch of a dataset holds something else than arrays.
    """
    if not is_arrays(data):
        for batch in each_batch(data):
            _refuse_others(batch)
            yield tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
        return
    parts = data if isinstance(data, tuple) else (data,)
    arrays = tree.flatten(parts[:1])
    for start in range(0, len(arrays[0]) if arrays else 0, size):
        rows = slice(start, start + size)
        yield tree.map_structure(lambda part: None if part is None else part[rows], parts)  # noqa: B023


def as_tensors(x: Any) -> Any:
    """Arrays of a batch as tensors, floating-point numbers in the precision that `fit` uses."""
    return tree.map_structure(_as_tensor, x)


def _as_tensor(x):
    if x is None or (isinstance(x, np.ndarray) and x.dtype.kind in "OSU"):
        return x
    x = keras.ops.convert_to_tensor(x)
    is_float = keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype))
    return keras.ops.cast(x, keras.config.floatx()) if is_float else x
