"""Cuts what has been pruned out of a model; the rest computes the same."""

from tfprune.rebuild.rebuilding import rebuild

__all__ = ["rebuild"]
