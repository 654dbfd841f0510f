"""Units of feed-forward pairs: dense layer, element-wise operations, dense layer."""

from __future__ import annotations

from tfprune.structures.channels import Channels
from tfprune.structures.dense import is_dense
from tfprune.structures.elementwise import is_elementwise
from tfprune.structures.structure import Remainder


class FeedForwardUnits(Channels):
    """The units between dense layers.

    Usually one layer makes them and one reads them. Gated feed-forward networks have two makers
    whose units are multiplied, or one that makes both and is taken apart; several layers may read
    the same units; a layer may be called in several places (tied decoder layers).

    Args:
        name: The path of the first producer.
        flow: As in `Channels`.
        family: One of its families, that only dense layers make and read.
    """

    def __init__(self, name, flow, family):
        super().__init__(name, flow, family)
        if self._can_be_empty():
            self.least = 0

    def _can_be_empty(self) -> bool:
        """Whether what reads the units can do without any: then it returns a constant."""
        between = (n.operation for n in self._nodes if not is_dense(n.operation))
        # Otherwise nothing could be taken apart.
        each_alone = all(share.is_in_blocks for share in self.slices)
        # Otherwise it would be no vector that stands at every place.
        is_vector = all(
            s.layer.bias is None or len(s.layer.bias.shape) == 1 for s in self.consumers
        )
        return all(map(is_elementwise, between)) and each_alone and is_vector

    @property
    def read_as_input(self) -> bool:
        """Whether the units are the last axis of what the layers that read them are given."""
        return all(share.reads_input and share.is_in_blocks for share in self.consumers)

    def remainders(self):
        """The biases of the layers that read the units."""
        return [
            Remainder(s.layer, s.layer.bias, (s.variable.shape[1],), s.layer.activation, s.variable)
            for s in self.consumers
        ]
