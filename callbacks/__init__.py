"""Callbacks for `model.fit`."""

from tfprune.callbacks.base import PruningCallback
from tfprune.callbacks.dynamic_sparsity import DynamicSparsity
from tfprune.callbacks.group_lasso import GroupLasso
from tfprune.callbacks.hard_concrete_gates import HardConcreteGates
from tfprune.callbacks.head_lottery import HeadLottery
from tfprune.callbacks.importance_pruning import ImportancePruning
from tfprune.callbacks.movement_pruning import MovementPruning
from tfprune.callbacks.targeted import TargetedPruning

__all__ = [
    "DynamicSparsity",
    "GroupLasso",
    "HardConcreteGates",
    "HeadLottery",
    "ImportancePruning",
    "MovementPruning",
    "PruningCallback",
    "TargetedPruning",
]
