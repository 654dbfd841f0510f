"""Smaller embeddings: fewer rows of a vocabulary, or a product of two smaller matrices."""

from tfprune.embeddings.factorized_embedding import FactorizedEmbedding
from tfprune.embeddings.factorizing import factorize_embeddings
from tfprune.embeddings.tokenizers import TrimmableTokenizer
from tfprune.embeddings.trimming import trim_vocabulary

__all__ = [
    "FactorizedEmbedding",
    "TrimmableTokenizer",
    "factorize_embeddings",
    "trim_vocabulary",
]
