"""What lies between dense layers in a layer that cannot be traced, told by running it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import Any

import keras
import numpy as np
from keras import ops

from tfprune.model_parts import own_children
from tfprune.structures.by_shape.groups import GroupsByShape
from tfprune.structures.by_shape.guesses import guesses_of_heads, guesses_of_units
from tfprune.structures.by_shape.proof import Trial
from tfprune.structures.by_shape.proven import proven
from tfprune.structures.by_shape.roles import Roles, merged
from tfprune.structures.dense import is_dense
from tfprune.structures.running import Arguments
from tfprune.structures.structure import Structure

Inputs = dict[int, list[np.ndarray]]


def find_by_running(layer: keras.Layer, arguments: Arguments, name: str) -> Iterator[Structure]:
    """Finds heads and units between the dense layers of a layer whose graph cannot be traced.

    Args:
        layer: A built layer made of layers.
        arguments: What it is given when the model runs: arrays and whatever else.
        name: The layer's path.

    Yields:
        Structures of the kinds `"heads"` and `"ffn"`.
    """
    for kind in ("heads", "ffn"):
        guesses = partial(_guesses, layer, kind)
        for found in proven(layer, f"{kind} by running", guesses, [arguments]):
            if not isinstance(found, str):
                first = f"{name}/{found[0].slices[0].layer.name}"
                yield GroupsByShape(kind, name if kind == "heads" else first, layer, *found)


def _guesses(layer, kind, trial):
    make = guesses_of_heads if kind == "heads" else guesses_of_units
    return [make(layer, roles) for roles in roles_by_running(layer, trial, kind == "heads")]


def roles_by_running(layer: keras.Layer, trial: Trial, mixing: bool) -> list[Roles]:
    """The dense layers that depend on each other and on none between.

    The kernel of one dense layer after the other is changed: those whose input changes depend on
    it. Between a layer and those that it depends on directly, positions are mixed, as attention
    does, if the output of these at the first position alone changes the input of that at others.

    Args:
        layer: A layer with dense layers of its own.
        trial: The layer with numbers on which it runs.
        mixing: Whether those between which positions are mixed are asked for, or the others.

    Returns:
        `Roles` without sizes.
    """
    dense = {id(x): x for x in own_children(layer) if is_dense(x)}
    read = _inputs(trial, dense)
    before: dict[int, set[int]] = {key: set() for key in dense}
    for key, maker in dense.items():
        changed = _inputs(trial, dense, changed={id(maker.kernel): trial.another(maker.kernel)})
        for other in _differing(read, changed) - {key}:
            before[other].add(key)
    found: list[tuple[set[int], set[int], set[int]]] = []
    for key, makers in before.items():
        direct = {m for m in makers if not any(m in before[other] for other in makers)}
        if direct and mixing == any(_mixes(trial, dense, read, maker, key) for maker in direct):
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
