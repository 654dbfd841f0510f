"""Layers with gates over the groups of another layer, for models written by hand."""

from tfprune.wrappers.gated_layer import GatedLayer
from tfprune.wrappers.hard_concrete_groups import HardConcreteGroups
from tfprune.wrappers.masked_groups import MaskedGroups
from tfprune.wrappers.movement_groups import MovementGroups

__all__ = ["GatedLayer", "HardConcreteGroups", "MaskedGroups", "MovementGroups"]
