"""Floating-point operations of single kernels, without counting those of a whole model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from tfprune.overlay.activations import inputs_shown
from tfprune.structures.convolutions import CONVOLUTIONS, TRANSPOSED
from tfprune.structures.dense import is_dense
from tfprune.structures.recurrent import RECURRENT
from tfprune.structures.structure import Structure

_KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel", "recurrent_kernel")


class KernelFlops:
    """What each weight of a kernel costs: two operations for each product that it takes part in."""

    def __init__(self) -> None:
        self._found: dict[int, float] = {}

    def __call__(self, variable: keras.Variable) -> float:
        """Of a weight of `variable`; 0 for one that is no kernel, such as a bias."""
        return self._found.get(id(variable), 0.0)

    def add(self, layer: keras.Layer, shape: tuple[int, ...]) -> None:
        """A call of a dense layer, a convolution or a recurrent layer, on an input of `shape`."""
        for name in _KERNELS:
            kernel = getattr(_with_kernels(layer), name, None)
            if kernel is not None:
                uses = self._found.get(id(kernel), 0.0) + 2.0 * _uses(layer, shape)
                self._found[id(kernel)] = uses


@contextmanager
def kernel_flops(structures: Iterable[Structure]) -> Iterator[KernelFlops]:
    """Inside a `with` block, adds up what the kernels of structures cost in calls of their layers.

    Args:
        structures: Structures whose layers are dense layers, convolutions and recurrent layers, as
            far as they have kernels. The calls may be those of a trace.
    """
    found = KernelFlops()
    involved = {id(layer): layer for s in structures for layer in s.layers()}
    with inputs_shown(
        [layer for layer in involved.values() if _has_kernel(layer)],
        lambda layer, x: found.add(layer, tuple(x.shape)),
    ):
        yield found


def _has_kernel(layer: Any) -> bool:
    known = is_dense(layer) or isinstance(layer, (*CONVOLUTIONS, *RECURRENT))
    owner = _with_kernels(layer)
    return known and any(getattr(owner, name, None) is not None for name in _KERNELS)


def _with_kernels(layer: Any) -> Any:
    """The layer itself, or the cell of a recurrent one."""
    return layer.cell if isinstance(layer, RECURRENT) else layer


def _uses(layer: Any, shape: tuple[int, ...]) -> float:
    """At how many places a call uses each weight of a kernel."""
    if is_dense(layer) or isinstance(layer, RECURRENT):  # At each step.
        return float(np.prod(shape[:-1]))
    if not isinstance(layer, TRANSPOSED):
        shape = layer.compute_output_shape(shape)
    channels = 1 if layer.data_format == "channels_first" else len(shape) - 1
    return float(np.prod([n for axis, n in enumerate(shape) if axis != channels]))
