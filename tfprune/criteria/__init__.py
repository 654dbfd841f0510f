"""Scores: how important each group of a structure is.

A criterion is a `Criterion`, which callbacks know by its name, or any `callable(structure)` that
returns one number for each group, higher for groups that matter more.
"""

from tfprune.criteria.activation import Activation, activation
from tfprune.criteria.confidence import AttentionConfidence, attention_confidence
from tfprune.criteria.criterion import Criterion, get, register_criterion
from tfprune.criteria.importance import GradientImportance, gradient_importance
from tfprune.criteria.magnitude import Magnitude, magnitude
from tfprune.criteria.movement import Movement, movement
from tfprune.criteria.random import Random, random
from tfprune.criteria.reconstruction import Reconstruction, reconstruction
from tfprune.criteria.wanda import Wanda, wanda

__all__ = [
    "Activation",
    "AttentionConfidence",
    "Criterion",
    "GradientImportance",
    "Magnitude",
    "Movement",
    "Random",
    "Reconstruction",
    "Wanda",
    "activation",
    "attention_confidence",
    "get",
    "gradient_importance",
    "magnitude",
    "movement",
    "random",
    "reconstruction",
    "register_criterion",
    "wanda",
]
