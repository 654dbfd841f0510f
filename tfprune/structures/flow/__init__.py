"""How the positions of tensor axes flow through a graph, and which leave together."""

# Each registers its rules.
from tfprune.structures.flow import (  # noqa: F401
    contractions,
    each,
    halves,
    moves,
    products,
    recurrent,
    riding,
)
from tfprune.structures.flow.flow import Family, Flow, Use
from tfprune.structures.flow.rules import register_rule

__all__ = ["Family", "Flow", "Use", "register_rule"]
