from .bucketed import TextBatches
from .help_topics import help_topics
from .labelled import LabelledText
from .libreoffice import libreoffice_help
from .minilm import minilm
from .movie_reviews import movie_reviews
from .numbers import number_words
from .parallel import ParallelText

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
