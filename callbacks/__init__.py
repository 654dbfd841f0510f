"""Callbacks for `model.fit`."""

from tfprune.callbacks.base import PruningCallback
from tfprune.callbacks.group_lasso import GroupLasso

__all__ = ["GroupLasso", "PruningCallback"]
