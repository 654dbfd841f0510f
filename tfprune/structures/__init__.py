"""What can be removed from a model: structures, how they are found, why others are skipped."""

import tfprune.structures.attention  # noqa: F401  # registers its layer kinds
from tfprune.structures.collection import Structures
from tfprune.structures.finding import find_structures
from tfprune.structures.registry import register_layer_kind
from tfprune.structures.structure import Remainder, Skipped, Slices, Structure

__all__ = [
    "Remainder",
    "Skipped",
    "Slices",
    "Structure",
    "Structures",
    "find_structures",
    "register_layer_kind",
]
