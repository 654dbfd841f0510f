from .bucketed import TextBatches
from .fashion_mnist import LabelledPictures, fashion_mnist
from .gguf_llama import llama_from_gguf
from .help_topics import help_topics
from .labelled import LabelledText
from .libreoffice import libreoffice_help
from .man_pages import man_pages
from .minilm import minilm
from .movie_reviews import movie_reviews
from .numbers import number_words
from .parallel import ParallelText
from .smollm2 import smollm2

__all__ = [
    "LabelledPictures",
    "LabelledText",
    "ParallelText",
    "TextBatches",
    "fashion_mnist",
    "help_topics",
    "libreoffice_help",
    "llama_from_gguf",
    "man_pages",
    "minilm",
    "movie_reviews",
    "number_words",
    "smollm2",
]
