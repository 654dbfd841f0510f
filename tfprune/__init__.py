"""tfprune: make Keras 3 models physically smaller while they train.

Importing it is cheap: TensorFlow's exporters, matplotlib, SacreBLEU and the like are imported by
the functions that use them.
"""

from __future__ import annotations

import importlib

# Some functions carry the name of the module they live in. Importing them here, all at once, makes
# sure that `tfprune.rebuild` is the function whichever module is imported first.
from tfprune.compare import Comparison, compare
from tfprune.export import export
from tfprune.measure import compare_latency, count_flops, count_parameters, measure_latency
from tfprune.rebuild import rebuild
from tfprune.structures import find_structures

__version__ = "0.1.0"

_MODULES = ("callbacks", "datasets", "plots", "regularizers", "schedules", "translation")

__all__ = [
    "Comparison",
    "compare",
    "compare_latency",
    "count_flops",
    "count_parameters",
    "export",
    "find_structures",
    "measure_latency",
    "rebuild",
    *_MODULES,
]


def __getattr__(name: str):
    if name in _MODULES:
        return importlib.import_module(f"tfprune.{name}")
    raise AttributeError(f"module 'tfprune' has no attribute {name!r}")
