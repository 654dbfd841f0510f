"""Text and weights: fetched once by a package manager, or made on the spot."""

from tfprune.datasets.bucketed import TextBatches
from tfprune.datasets.help_topics import help_topics
from tfprune.datasets.labelled import LabelledText
from tfprune.datasets.libreoffice import libreoffice_help
from tfprune.datasets.minilm import minilm
from tfprune.datasets.movie_reviews import movie_reviews
from tfprune.datasets.numbers import number_words
from tfprune.datasets.parallel import ParallelText

__all__ = [
    "LabelledText",
    "ParallelText",
    "TextBatches",
    "help_topics",
    "libreoffice_help",
    "minilm",
    "movie_reviews",
    "number_words",
]
