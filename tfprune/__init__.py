"""tfprune: make Keras 3 models physically smaller while they train.

Importing it is cheap: TensorFlow's exporters, matplotlib, SacreBLEU and the like are imported by
the functions that use them.
"""

from __future__ import annotations

import importlib

from tfprune.budgets.latency_table import LatencyTable
from tfprune.budgets.targets import Flops, Latency, Parameters, Sparsity
from tfprune.embeddings import factorize_embeddings, trim_vocabulary
from tfprune.embeddings.factorized_embedding import FactorizedEmbedding
from tfprune.export import export
from tfprune.measuring.counting import count_flops, count_parameters
from tfprune.measuring.timing import compare_latency, measure_latency
from tfprune.rebuild import rebuild

# Some functions carry the name of the module they live in. Importing them here, all at once, makes
# sure that `tfprune.rebuild` is the function whichever module is imported first.
from tfprune.reports.comparison import Comparison, compare
from tfprune.reports.frontier import Frontier, sizes
from tfprune.reports.sharing import Sharing, sharing
from tfprune.structures import find_structures

__version__ = "0.1.0"

_MODULES = (
    "callbacks",
    "criteria",
    "datasets",
    "gates",
    "penalties",
    "schedules",
    "translation",
)

__all__ = [
    "Comparison",
    "FactorizedEmbedding",
    "Flops",
    "Frontier",
    "Latency",
    "LatencyTable",
    "Parameters",
    "Sharing",
    "Sparsity",
    "compare",
    "compare_latency",
    "count_flops",
    "count_parameters",
    "export",
    "factorize_embeddings",
    "find_structures",
    "measure_latency",
    "rebuild",
    "sharing",
    "sizes",
    "trim_vocabulary",
    *_MODULES,
]


def __getattr__(name: str):
    if name in _MODULES:
        return importlib.import_module(f"tfprune.{name}")
    raise AttributeError(f"module 'tfprune' has no attribute {name!r}")
