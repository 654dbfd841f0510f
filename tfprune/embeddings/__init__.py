"""Smaller embeddings: fewer rows of a vocabulary."""

from tfprune.embeddings.trimming import trim_vocabulary

__all__ = ["trim_vocabulary"]
