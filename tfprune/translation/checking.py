"""Compares the files of a translator with the translator."""

from __future__ import annotations

import os
import warnings

import numpy as np
from keras import ops

from tfprune.translation.encoding import encode_sources, padded
from tfprune.translation.loading import LiteRTTranslator, SavedTranslator
from tfprune.translation.searching import beam_search, shortfalls
from tfprune.translation.translator import Translator
from tfprune.translation.vocabulary import Vocabulary

# By how much the logits of a file's words may be smaller than the largest, at the worst position
# and on average, as a share of the distance of the largest from the mean, which is what words by
# chance lose. The words of a float file differ from the translator's where two are equally likely.
# Quantized students, trained or not, were measured to lose up to 0.03 and 0.0004; without one
# kernel, a trained one loses 0.4 and more, and 0.03 to 0.5.
_WORST = {None: 1e-3, "dynamic_int8": 0.15}
_MEAN = {None: 1e-3, "dynamic_int8": 0.01}
# With beam search quantization may drop a beginning for another, after which one translation of
# many is less likely or likelier by 0.4, so there the median counts. Quantized students were
# measured to have up to 0.0001; without one kernel, those that it matters to have 0.006 and more.
_MEDIAN = 0.002


def check_ids(
    translator: Translator, path: str | os.PathLike, quantize: str | None, beam: int = 1
) -> None:
    """Compares a LiteRT file with its translator.

    Quantization may change a word, after which all others may differ. So the words are not compared
    with the translator's but given to it: how likely are they, each after those before it? Beam
    search chooses no word for itself, so there whole translations are compared.

    Args:
        translator: The translator.
        path: The file.
        quantize: As in `export_translator`.
        beam: As in `export_translator`.

    Raises:
        ValueError: If the file translates differently.
    """
    file = LiteRTTranslator(path, vocabulary=translator.vocabulary)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Some are too long, and cut.
        encoded = encode_sources(
            _sentences(translator), translator.vocabulary, translator.max_length
        )
    sources = [ids for ids in encoded if ids]
    words = np.concatenate([file.words(ids) for ids in sources])
    wrong = words.shape != (len(sources), translator.max_length)
    wrong = wrong or file.max_length != translator.max_length
    if not wrong:
        wrong = bool(np.any(words[_ended(words)] != translator.vocabulary.pad_id))
        lost, chance = _lost(translator.decoder, padded(sources), words, beam)
        if beam > 1 and quantize:
            wrong = wrong or not np.median(lost) <= _MEDIAN * chance + 1e-6
        else:
            wrong = wrong or not lost.max() <= _WORST[quantize] * chance + 1e-6
            wrong = wrong or not lost.mean() <= _MEAN[quantize] * chance + 1e-6
    if wrong:
        raise ValueError(
            "The LiteRT file does not translate as the model does; it was not written."
        )


def _lost(decoder, source, words, beam):
    """How much less likely words are than the translator's, and what words by chance lose.

    Returns:
        The first for each word, or for each translation of a beam search, and the mean of the
        second.
    """
    there = ~_ended(words)
    lost, chance, gains = map(ops.convert_to_numpy, shortfalls(decoder, source, words))
    if beam == 1:
        return lost[there], chance[there].mean()
    best, scores = map(ops.convert_to_numpy, beam_search(decoder, source, beam))
    # One of two translations may be short, and as likely as a long one.
    number = np.maximum(there.sum(axis=1), (~_ended(best)).sum(axis=1))
    # A likelier translation is none that this search finds.
    lost = np.abs(scores - np.sum(gains, axis=1, where=there))
    return lost / number, chance[there].mean()


def _ended(words):
    """Which places of translations are behind the end."""
    end = words == Vocabulary.end_id
    return np.cumsum(end, axis=1) - end > 0


def check_text(translator: Translator, path: str | os.PathLike, beam: int = 1) -> None:
    """Compares a SavedModel with its translator.

    Args:
        translator: The translator.
        path: The folder.
        beam: As in `export_translator`.

    Raises:
        ValueError: If the SavedModel translates differently.
    """
    sentences = [*_sentences(translator), ""]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Some are too long, and cut.
        expected = translator.translate(sentences, beam)
    if SavedTranslator(path).translate(sentences) != expected:
        raise ValueError("The SavedModel does not translate as the model does; it was not written.")


def _sentences(translator):
    """Text of random units, from one to more than the translator takes."""
    draw = np.random.default_rng(0)
    vocabulary, longest = translator.vocabulary, translator.max_length
    lengths = sorted({1, 2, 5, longest // 2, longest - 1, longest, 2 * longest + 3} - {0})
    # Bytes by chance are no text. A vocabulary of characters alone has no other units.
    units = np.flatnonzero(~vocabulary.always_kept())
    units = units if len(units) else np.arange(Vocabulary.unknown_id + 1, len(vocabulary))
    return [vocabulary.decode(draw.choice(units, n)) for n in (*lengths, *lengths)]
