"""tfprune: make Keras 3 models physically smaller while they train.

Importing it is cheap: TensorFlow's exporters, matplotlib, SacreBLEU and the like are imported by
the functions that use them.
"""

from __future__ import annotations

import importlib

# Some functions carry the name of the module they live in. Importing them here, all at once, makes
# sure that `tfprune.rebuild` is the function whichever module is imported first.
from tfprune.compare import Comparison, compare
from tfprune.embeddings import factorize_embeddings, trim_vocabulary
from tfprune.export import export
from tfprune.factorized_embedding import FactorizedEmbedding
from tfprune.latency_table import LatencyTable
from tfprune.measure import compare_latency, count_flops, count_parameters, measure_latency
from tfprune.rebuild import rebuild
from tfprune.sharing import Sharing, sharing
from tfprune.sizes import Frontier, sizes
from tfprune.structures import find_structures
from tfprune.targets import Flops, Latency, Parameters, Sparsity

__version__ = "0.1.0"

_MODULES = (
    "callbacks",
    "criteria",
    "datasets",
    "gates",
    "plots",
    "regularizers",
    "schedules",
    "targets",
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
