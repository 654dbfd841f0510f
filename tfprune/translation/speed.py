"""Words per second on a CPU, the figure that people who serve translations care about."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from tfprune.translation.loading import LiteRTTranslator


def words_per_second(
    files: Mapping[str, str] | str, sentences: Sequence[str], threads: int = 1, rounds: int = 3
) -> dict[str, dict[str, float]]:
    """Translates the same sentences with each file in turn, one sentence at a time.

    Args:
        files: Label to a `.tflite` file of `export_translator`, or one file. The first is what
            the others are compared with.
        sentences: Source sentences.
        threads: Threads of the interpreter.
        rounds: How often all sentences are translated. Files take turns round by round, each after
            a sentence that is not timed, so that its weights are in the cache as they are where
            one translator serves alone.

    Returns:
        Label to `"words_per_second"` (source words, median over rounds), and `"time_ratio"`
        (median over sentences and rounds of a file's time by the first file's).

    Source: Behnke & Heafield, WMT 2021, section 4: words per second on one CPU core.
    """
    files = {"model": files} if not isinstance(files, Mapping) else dict(files)
    if not sentences:
        raise ValueError("`sentences` must hold at least one sentence. Received: none")
    translators = [LiteRTTranslator(path, threads) for path in files.values()]
    times = np.empty((rounds, len(sentences), len(translators)))
    for turn in range(rounds):
        for j, translator in enumerate(translators):
            translator.translate(sentences[0])
            for i, sentence in enumerate(sentences):
                start = time.perf_counter()
                translator.translate(sentence)
                times[turn, i, j] = time.perf_counter() - start
    words = sum(len(s.split()) for s in sentences)
    speeds = words / times.sum(axis=1)
    ratios = times / times[:, :, :1]
    return {
        label: {
            "words_per_second": float(np.median(speeds[:, j])),
            "time_ratio": float(np.median(ratios[:, :, j])),
        }
        for j, label in enumerate(files)
    }
