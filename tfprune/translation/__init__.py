"""The reference translator: data to text, in Keras, small enough to read."""

from tfprune.translation.batches import Batches, batches
from tfprune.translation.distillation import distill
from tfprune.translation.evaluation import SacreBleu, evaluate, paired_bootstrap, score
from tfprune.translation.exporting import export_translator, load_translator
from tfprune.translation.layers import SSRU, SinusoidalPositions
from tfprune.translation.speed import words_per_second
from tfprune.translation.student import student
from tfprune.translation.training import InverseSquareRoot, WordCrossEntropy, compile_student
from tfprune.translation.translator import Translator
from tfprune.translation.vocabulary import Vocabulary

__all__ = [
    "SSRU",
    "Batches",
    "InverseSquareRoot",
    "SacreBleu",
    "SinusoidalPositions",
    "Translator",
    "Vocabulary",
    "WordCrossEntropy",
    "batches",
    "compile_student",
    "distill",
    "evaluate",
    "export_translator",
    "load_translator",
    "paired_bootstrap",
    "score",
    "student",
    "words_per_second",
]
