"""Scores: how important each group of a structure is.

A criterion is any `callable(structure)` that returns one number for each group, higher for groups
that matter more.
"""

from tfprune.criteria.confidence import attention_confidence
from tfprune.criteria.importance import gradient_importance
from tfprune.criteria.magnitude import magnitude
from tfprune.criteria.movement import movement
from tfprune.criteria.random import random

__all__ = ["attention_confidence", "gradient_importance", "magnitude", "movement", "random"]
