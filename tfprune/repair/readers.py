"""The layers that read groups of which some go, and whether they can be fitted anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tfprune.overlay.activations import Read
from tfprune.overlay.transforms import transforms_of
from tfprune.overlay.windows import input_shape, rows_read
from tfprune.structures import Slices, Structure
from tfprune.structures.convolutions import reads_windows


@dataclass
class Reader:
    """A layer whose kernel reads groups, some of which go.

    Args:
        share: What its kernel reads of the groups.
        stays: Which inputs of a position stay, a boolean array `(inputs,)`.
        why_not: Why it cannot be fitted, or `""`.
    """

    share: Slices
    stays: np.ndarray
    why_not: str = ""

    @property
    def layer(self) -> keras.Layer:
        """The layer."""
        return self.share.layer

    @property
    def kernel(self) -> keras.Variable:
        """The kernel."""
        return self.share.variable

    def rows(self, read: Read, most: int | None = None) -> np.ndarray:
        """What the layer reads in one call, position by position, without padding.

        Args:
            read: What it reads.
            most: Of a convolution, how many positions are drawn at most.

        Returns:
            Array `(positions, inputs)`, float32.
        """
        return rows_read(self.layer, read, self.width, most)

    @property
    def width(self) -> int:
        """Inputs at a position."""
        return len(self.stays)


def readers(structures: Iterable[Structure], keep: Mapping[str, np.ndarray]) -> list[Reader]:
    """The layers that read what goes, each once: several structures may be read by one kernel.

    Args:
        structures: The structures.
        keep: Structure name to boolean array `(groups,)`; those that are not named stay whole.
    """
    found: dict[int, Reader] = {}
    for structure in structures:
        gone = np.flatnonzero(~np.asarray(keep.get(structure.name, [True]), bool))
        if not len(gone):
            continue
        for share in structure.consumers:
            reader = found.get(id(share.variable))
            if reader is None:
                reader = found[id(share.variable)] = _reader(share)
            if not reader.why_not:
                stays = reader.stays.reshape(input_shape(share))  # A view.
                at: list[Any] = [slice(None)] * stays.ndim
                at[share.axis] = structure.positions(gone, share)
                stays[tuple(at)] = False
    return list(found.values())


def _reader(share: Slices) -> Reader:
    stays = np.ones(int(np.prod(input_shape(share))), bool)
    reader = Reader(share, stays)
    if transforms_of(share.layer):
        reader.why_not = "gates or masks are on its weights"
    elif reads_windows(share.layer):
        return reader
    elif not share.reads_input:
        reader.why_not = "what it reads is made inside the layer"
    elif not share.begins_with_inputs:
        reader.why_not = "its kernel does not begin with the axes of its inputs"
    return reader
