"""The structure of groups that were found by the shapes of variables."""

from __future__ import annotations

import keras
import numpy as np

from tfprune.structures.by_shape.guesses import Guess
from tfprune.structures.by_shape.proof import counted
from tfprune.structures.slices import Slices
from tfprune.structures.structure import Remainder, Structure


class GroupsByShape(Structure):
    """Groups that were found by the shapes of variables, and proven.

    Of attention, a group is what must leave together: one key and value head with all the query
    heads that share it, and what rides on them. The layer is cut by giving its variables smaller
    shapes.

    Args:
        kind: `"heads"`, or `"ffn"` for units.
        name: The path of the layer.
        layer: The layer with all that the groups are made of.
        guess: How they lie in it, proven.
        silencers: The kernels that make what the groups emit; of heads, the values.
        returns_them: Whether the layer returns what one dense layer makes of the groups and nothing
            else, so that it is a constant without them.
    """

    is_cut_by_shape = True

    def __init__(
        self,
        kind: str,
        name: str,
        layer: keras.Layer,
        guess: Guess,
        silencers: tuple[Slices, ...],
        returns_them: bool = False,
    ):
        super().__init__(name, guess.groups, guess.slices)
        self.kind = kind
        self.layer = layer
        self._counts = guess.counts
        self.is_padded = guess.is_padded
        self._silencers = silencers
        self.least = 0 if returns_them else 1

    @property
    def silencers(self):
        """The kernels that make what the groups emit."""
        return self._silencers

    def emitted(self, consumer, read):
        """Zero, where the biases of the values are; what else they give is not known."""
        size = [consumer.variable.shape[axis] for axis in consumer.connection_axes]
        silent = np.full(self.groups, bool(self._silencers))
        makers = {id(share.layer) for share in self._silencers}
        for share in self.producers:
            if id(share.layer) in makers and not share.is_matrix:
                value = np.moveaxis(read(share.variable), share.axis, 0)
                silent &= self.by_group(value == 0, share).all(axis=1)
            elif id(share.layer) in makers and _has_shared_bias(share.layer, self.producers):
                silent &= not np.any(read(share.layer.bias))
        emitted = np.zeros(size, "float32")
        emitted[~np.repeat(silent, size[0] // self.groups)] = np.nan
        return emitted

    def resized_config(self, layer, groups):
        """Nothing: the layer is made as it was, then cut."""
        return {}

    def resized_numbers(self, groups):
        """The numbers of the layer and of those inside that count groups."""
        return counted(self._counts, groups)

    def remainders(self):
        """The bias of the layer that reads the groups."""
        if self.least:
            return []
        (consumer,) = self.consumers
        width = int(consumer.variable.shape[-1])
        return [Remainder(self.layer, consumer.bias_variable, (width,))]

    def layers(self):
        """The layer with the groups; those that it is made of are cut in it."""
        yield self.layer


def _has_shared_bias(layer, producers) -> bool:
    """Whether a layer has a bias that is the same for all heads."""
    return getattr(layer, "bias", None) is not None and not any(
        s.layer is layer and s.attribute == "bias" for s in producers
    )
