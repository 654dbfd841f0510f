# The public names. `__init__.py` reads this file to import each of them when it is first used.
from . import (
    callbacks,
    criteria,
    datasets,
    gates,
    penalties,
    schedules,
    translation,
    wrappers,
)
from .budgets.latency_table import LatencyTable
from .budgets.targets import Flops, Latency, Parameters, Sparsity
from .embeddings import factorize_embeddings, trim_vocabulary
from .embeddings.factorized_embedding import FactorizedEmbedding
from .export import export
from .measuring.counting import count_flops, count_parameters
from .measuring.timing import compare_latency, measure_latency
from .pruning import prune
from .rebuild import rebuild
from .reports.comparison import Comparison, compare
from .reports.frontier import Frontier, sizes
from .reports.sharing import Sharing, sharing
from .structures import find_structures

__version__: str

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
    "callbacks",
    "compare",
    "compare_latency",
    "count_flops",
    "count_parameters",
    "criteria",
    "datasets",
    "export",
    "factorize_embeddings",
    "find_structures",
    "gates",
    "measure_latency",
    "penalties",
    "prune",
    "rebuild",
    "schedules",
    "sharing",
    "sizes",
    "translation",
    "trim_vocabulary",
    "wrappers",
]
