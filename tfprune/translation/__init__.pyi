from .distillation import distill
from .evaluation import SacreBleu, evaluate, paired_bootstrap, score
from .exporting import export_translator
from .greedy_translations import GreedyTranslations
from .loading import load_translator
from .sentence_pairs import Batches, batches
from .shortlist import Coverage, Shortlist
from .speed import words_per_second
from .student import student
from .student_layers import SSRU, SinusoidalPositions
from .training import InverseSquareRoot, WordCrossEntropy, compile_student
from .translator import Translator
from .vocabulary import Vocabulary

__all__ = [
    "SSRU",
    "Batches",
    "Coverage",
    "GreedyTranslations",
    "InverseSquareRoot",
    "SacreBleu",
    "Shortlist",
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
