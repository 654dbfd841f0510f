"""Which models can be given numbers to count or time them."""

from __future__ import annotations

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
