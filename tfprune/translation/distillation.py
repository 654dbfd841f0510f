"""Sequence-level distillation: a student learns from a teacher's translations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tfprune.datasets.parallel import Pair
from tfprune.translation.translates import Translates


def distill(
    teacher: Translates,
    pairs: Sequence[Pair],
    beam: int = 1,
    batch_size: int = 64,
    progress: bool = True,
) -> list[Pair]:
    """Replaces the target side of pairs by a teacher's translation.

    Args:
        teacher: Anything with `translate(sentences, beam=, batch_size=)`.
        pairs: Training pairs.
        beam: Beam of the teacher.
        batch_size: Sentences translated at once.
        progress: Show a progress bar.

    Returns:
        Pairs `(source, translation)`; those with an empty translation are left out.

    Source: Kim & Rush, "Sequence-Level Knowledge Distillation", EMNLP 2016.
    """
    from rich.progress import track

    sources = [s for s, _ in pairs]
    chunk = 16 * batch_size
    starts: Iterable[int] = range(0, len(sources), chunk)
    if progress:
        starts = track(starts, description="Translating with the teacher")
    result: list[Pair] = []
    for start in starts:
        part = sources[start : start + chunk]
        translations = teacher.translate(part, beam=beam, batch_size=batch_size)
        result += [(s, t) for s, t in zip(part, translations, strict=True) if t]
    return result
