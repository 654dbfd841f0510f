"""Parallel text: fetched once by the package manager, or made on the spot."""

from tfprune.datasets.libreoffice import libreoffice_help
from tfprune.datasets.numbers import number_words
from tfprune.datasets.parallel import ParallelText

__all__ = ["ParallelText", "libreoffice_help", "number_words"]
