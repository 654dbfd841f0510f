"""BLEU and chrF, as SacreBLEU computes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tfprune.datasets.parallel import Pair
from tfprune.extras import require
from tfprune.translation.translates import Translates
from tfprune.translation.translator import Translator
from tfprune.translation.vocabulary import Vocabulary


def score(hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    """BLEU and chrF of translations, with SacreBLEU's signatures.

    Args:
        hypotheses: Translations.
        references: What they should be.

    Returns:
        `"bleu"`, `"chrf"`, `"bleu_signature"`, `"chrf_signature"`.
    """
    if len(hypotheses) != len(references) or not references:
        raise ValueError(
            "`hypotheses` and `references` must be of the same length, at least 1. "
            f"Received: {len(hypotheses)} and {len(references)}"
        )
    metrics = require("sacrebleu.metrics", extra="translation")
    bleu, chrf = metrics.BLEU(), metrics.CHRF()
    return {
        "bleu": bleu.corpus_score(list(hypotheses), [list(references)]).score,
        "chrf": chrf.corpus_score(list(hypotheses), [list(references)]).score,
        "bleu_signature": str(bleu.get_signature()),
        "chrf_signature": str(chrf.get_signature()),
    }


def evaluate(translator: Translates, pairs: Sequence[Pair], **options: Any) -> dict[str, Any]:
    """Translates the source side of pairs and scores it against the target side.

    Args:
        translator: Anything with `translate(sentences)`.
        pairs: Sentence pairs.
        **options: Passed on to `translate`, such as `beam`.

    Returns:
        What `score` returns, and `"hypotheses"`.
    """
    hypotheses = translator.translate([s for s, _ in pairs], **options)
    return {**score(hypotheses, [t for _, t in pairs]), "hypotheses": hypotheses}


def paired_bootstrap(
    references: Sequence[str],
    baseline: Sequence[str],
    others: Mapping[str, Sequence[str]],
    samples: int = 1000,
) -> dict[str, dict[str, float]]:
    """Whether differences in BLEU and chrF from a baseline are more than chance.

    Args:
        references: Reference translations.
        baseline: The baseline's translations.
        others: Name to translations.
        samples: Bootstrap samples.

    Returns:
        Name to `"bleu"`, `"bleu_p"`, `"chrf"`, `"chrf_p"`; the baseline is called `"baseline"`.
        `p` is 1 where the scores are equal.
    """
    sacrebleu = require("sacrebleu.metrics", extra="translation")
    significance = require("sacrebleu.significance", extra="translation")

    systems = [("baseline", list(baseline)), *((k, list(v)) for k, v in others.items())]
    known = [list(references)]
    metrics = {
        "bleu": sacrebleu.BLEU(references=known),
        "chrf": sacrebleu.CHRF(references=known),
    }
    _, results = significance.PairedTest(
        systems, metrics, None, test_type="bs", n_samples=samples
    )()
    table: dict[str, dict[str, float]] = {}
    for place, (name, _) in enumerate(systems):
        table[name] = {}
        for key, column in results.items():
            if key == "System":
                continue
            metric = "bleu" if "bleu" in key.lower() else "chrf"
            table[name][metric] = float(column[place].score)
            p = column[place].p_value
            # SacreBLEU counts the samples that differ by more than the scores do.
            p = 1.0 if place and column[place].score == column[0].score else p
            table[name][f"{metric}_p"] = float("nan") if p is None else float(p)
    return table


class SacreBleu(keras.callbacks.Callback):
    """Writes BLEU and chrF of a development set into the epoch logs.

    Put it before callbacks that monitor `val_bleu` or `val_chrf`.

    Args:
        pairs: The development set.
        vocabulary: The vocabulary of the model.
        max_length: The longest translation, in tokens.
        every: Epochs from one evaluation to the next; the logs in between repeat the last.
        batch_size: Sentences translated at once.

    Attributes:
        signatures: SacreBLEU's signatures of both figures.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        vocabulary: Vocabulary,
        max_length: int = 64,
        every: int = 1,
        batch_size: int = 64,
    ):
        super().__init__()
        if not pairs:
            raise ValueError("`pairs` must hold at least one sentence pair. Received: none")
        self.pairs = list(pairs)
        self.vocabulary = vocabulary
        self.max_length = max_length
        self.every = every
        self.batch_size = batch_size
        self.signatures: tuple[str, str] | None = None
        self._translator: Translator | None = None
        self._last: dict[str, float] = {}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Translates the development set."""
        if (epoch + 1) % self.every == 0 or not self._last:
            if self._translator is None or keras.backend.backend() != "tensorflow":
                # Elsewhere compiled functions hold the weights they were compiled with.
                self._translator = Translator(self.model, self.vocabulary, self.max_length)
            result = evaluate(self._translator, self.pairs, batch_size=self.batch_size)
            self.signatures = (result["bleu_signature"], result["chrf_signature"])
            self._last = {"val_bleu": result["bleu"], "val_chrf": result["chrf"]}
        if logs is not None:
            logs.update(self._last)
