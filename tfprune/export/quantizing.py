"""The examples from which value ranges are measured for `quantize="int8"`."""

from __future__ import annotations

import numpy as np
from keras import tree


def examples_of(model, data) -> list[list[np.ndarray]]:
    """Single examples as flat lists of arrays in the order of the model's inputs."""
    if data is None:
        raise ValueError(
            "`representative_data` is needed for quantize='int8': some examples of the inputs, "
            "from which value ranges are measured."
        )
    specs = model.inputs
    is_batches = not isinstance(data, (np.ndarray, dict, tuple, list)) or (
        isinstance(data, list) and len(data) > 0 and isinstance(data[0], dict)
    )
    batches = list(data) if is_batches else [data]
    found = []
    for batch in batches:
        arrays = [np.asarray(a) for a in tree.flatten(batch)]
        if len(arrays) != len(specs):
            raise ValueError(
                f"`representative_data` must hold {len(specs)} arrays a batch, one for each input "
                f"of the model. Received: {len(arrays)}"
            )
        for array, spec in zip(arrays, specs, strict=True):
            fits = array.ndim == len(spec.shape) and all(
                want in (None, got)
                for want, got in zip(spec.shape[1:], array.shape[1:], strict=False)
            )
            if not fits or not np.issubdtype(array.dtype, np.number):
                raise ValueError(
                    f"`representative_data` must have shape {spec.shape} for input {spec.name!r}. "
                    f"Received: shape {array.shape}, dtype {array.dtype}"
                )
        arrays = [a.astype(s.dtype) for a, s in zip(arrays, specs, strict=True)]
        found += [[a[i : i + 1] for a in arrays] for i in range(len(arrays[0]))]
    if not found:
        raise ValueError("`representative_data` must hold at least one example. Received: none")
    return found
