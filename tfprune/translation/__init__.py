"""The reference translator: data to text, in Keras, small enough to read."""

from tfprune.translation.batches import Batches, batches
from tfprune.translation.layers import SSRU, SinusoidalPositions
from tfprune.translation.student import student
from tfprune.translation.training import InverseSquareRoot, WordCrossEntropy, compile_student
from tfprune.translation.translator import Translator
from tfprune.translation.vocabulary import Vocabulary

__all__ = [
    "SSRU",
    "Batches",
    "InverseSquareRoot",
    "SinusoidalPositions",
    "Translator",
    "Vocabulary",
    "WordCrossEntropy",
    "batches",
    "compile_student",
    "student",
]
