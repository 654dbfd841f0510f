"""What models are given when they are counted or timed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras


def check_numeric(model: keras.Model) -> keras.Model:
    """Refuses a model that reads text, which nobody can make up.

    Args:
        model: A model with `inputs`.

    Returns:
        The model.

    Raises:
        ValueError: If an input is of strings, by its name.
    """
    for tensor in model.inputs:
        if keras.backend.standardize_dtype(tensor.dtype) == "string":
            raise ValueError(
                "`model` must read numbers, not strings. Received: the input "
                f"{tensor.name!r} of strings. Take the model behind the preprocessor: one whose "
                "input is what the preprocessor gives, such as token ids."
            )
    return model


def checked_inputs(inputs: Any, names: Sequence[str]) -> list[Any]:
    """Arrays for a model, one for each input.

    Args:
        inputs: What was given.
        names: The names of the inputs.

    Returns:
        The arrays.

    Raises:
        ValueError: If it is no list, or has another length.
    """
    if not isinstance(inputs, (list, tuple)) or len(inputs) != len(names):
        is_list = isinstance(inputs, (list, tuple))
        got = f"a list of {len(inputs)}" if is_list else f"{type(inputs).__name__}"
        raise ValueError(
            f"`inputs` must be a list of {len(names)} array{'s' * (len(names) > 1)}, one for each "
            f"input of the model: {', '.join(names)}. Received: {got}"
        )
    return list(inputs)
