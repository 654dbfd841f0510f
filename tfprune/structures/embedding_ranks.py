"""Ranks of factorised embeddings."""

from __future__ import annotations

import numpy as np

from tfprune.factorized_embedding import FactorizedEmbedding
from tfprune.structures.registry import register_layer_kind
from tfprune.structures.structure import Slices, Structure


class EmbeddingRanks(Structure):
    """The inner size of one `FactorizedEmbedding`: a column of Ê and a row of P are a group."""

    kind = "ranks"
    least = 1
    read_as_input = False  # A layer of ids holds both matrices.

    def __init__(self, name: str, layer: FactorizedEmbedding):
        slices = (
            Slices(layer, "embeddings", 1, "producer"),
            Slices(layer, "kernel", 0, "consumer"),
        )
        super().__init__(name, layer.rank, slices)

    def emitted(self, consumer, read):
        """Nothing: a lookup has no bias."""
        return np.zeros(consumer.variable.shape[:1], "float32")

    def resized_config(self, layer, groups):
        """A smaller rank."""
        return {"rank": groups}

    def remainders(self):
        """Never asked for: one rank stays."""
        return []


@register_layer_kind(FactorizedEmbedding)
def describe_factorized_embedding(layer, name):
    """Ranks of `tfprune.FactorizedEmbedding`."""
    return EmbeddingRanks(name, layer)
