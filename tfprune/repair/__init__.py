"""Weights fitted anew, by least squares, after groups have gone: no training is needed.

`repairing.py` walks through a model, `readers.py` says which layers read what goes,
`least_squares.py` solves for one layer.
"""

from tfprune.repair.repairing import Repairs, repair

__all__ = ["Repairs", "repair"]
