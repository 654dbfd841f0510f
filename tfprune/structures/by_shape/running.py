"""The roles of dense layers in a layer whose graph cannot be traced, told by running it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import keras
import numpy as np
from keras import ops

from tfprune.model_parts import own_children
from tfprune.structures.by_shape.proof import Trial
from tfprune.structures.by_shape.roles import Roles, merged
from tfprune.structures.feed_forward import is_dense

Inputs = dict[int, list[np.ndarray]]


def roles_by_running(layer: keras.Layer, trial: Trial) -> list[Roles]:
    """The dense layers around what mixes positions, as attention does.

    The kernel of one dense layer after the other is changed: those whose input changes depend on
    it. Between a layer and those that it depends on directly, positions are mixed if the output of
    these at the first position alone changes the input of that at others.

    Args:
        layer: A layer with dense layers of its own.
        trial: The layer with numbers on which it runs.

    Returns:
        `Roles` without sizes; none if nothing mixes positions.
    """
    dense = {id(x): x for x in own_children(layer) if is_dense(x)}
    read = _inputs(trial, dense)
    before: dict[int, set[int]] = {key: set() for key in dense}
    for key, maker in dense.items():
        changed = _inputs(trial, dense, changed={id(maker.kernel): trial.another(maker.kernel)})
        for other in _differing(read, changed) - {key}:
            before[other].add(key)
    found = []
    for key, makers in before.items():
        direct = {m for m in makers if not any(m in before[other] for other in makers)}
        if any(_mixes(trial, dense, read, maker, key) for maker in direct):
            found.append((direct, {key}, set()))
    return merged(found, dense)


def _mixes(trial, dense, read, maker, reader) -> bool:
    """Whether one dense layer, at its first position alone, changes others of what one reads."""

    def moved(call):
        def moving(*args, **kwargs):
            made = ops.convert_to_numpy(call(*args, **kwargs)).copy()
            if made.ndim > 2:
                made[:, 0] += 1 + np.arange(made[:, 0].size).reshape(made[:, 0].shape) % 3
            return ops.convert_to_tensor(made)

        return moving

    changed = _inputs(trial, dense, moved={maker: moved})
    return any(
        was.shape == now.shape and was.ndim > 2 and not np.allclose(was[:, 1:], now[:, 1:])
        for was, now in zip(read.get(reader, []), changed.get(reader, []), strict=False)
    )


def _inputs(trial, dense, changed=None, moved=None) -> Inputs:
    """What dense layers read, in one run."""
    found: Inputs = {}
    calls = [
        (layer, _noting(key, partial(type(layer).call, layer), found, (moved or {}).get(key)))
        for key, layer in dense.items()
    ]
    trial.run(changed or {}, calls=calls)
    return found


def _noting(key: int, call: partial, found: Inputs, moved: Any) -> Callable:
    other = call if moved is None else moved(call)

    @wraps(call.func)
    def noting(inputs, *args, **kwargs):
        found.setdefault(key, []).append(ops.convert_to_numpy(inputs))
        return other(inputs, *args, **kwargs)

    return noting


def _differing(before: Inputs, after: Inputs) -> set[int]:
    return {
        key
        for key, arrays in before.items()
        if len(arrays) != len(after.get(key, []))
        or not all(map(np.array_equal, arrays, after[key]))
    }
