"""What can be removed from a model: structures, how they are found, why others are skipped."""

import tfprune.structures.attention_heads  # registers its layer kinds
import tfprune.structures.channel_search  # noqa: F401  # registers its graph kind
from tfprune.structures.collection import Structures
from tfprune.structures.cut_variables import CutVariable, LeftOver
from tfprune.structures.finding import find_structures
from tfprune.structures.graph import Graph
from tfprune.structures.registry import register_graph_kind, register_layer_kind
from tfprune.structures.skipped import Skipped, SkippedLayer
from tfprune.structures.slices import Slices
from tfprune.structures.structure import Remainder, Structure

__all__ = [
    "CutVariable",
    "Graph",
    "LeftOver",
    "Remainder",
    "Skipped",
    "SkippedLayer",
    "Slices",
    "Structure",
    "Structures",
    "find_structures",
    "register_graph_kind",
    "register_layer_kind",
]
