"""Sentence pairs in three splits."""

from __future__ import annotations

from dataclasses import dataclass

Pair = tuple[str, str]


@dataclass(frozen=True)
class ParallelText:
    """Sentence pairs for training, development and testing.

    Args:
        source_language: Two-letter code.
        target_language: Two-letter code.
        train: Pairs `(source, target)`.
        dev: Pairs for choices made during training.
        test: Pairs for the final figures.
    """

    source_language: str
    target_language: str
    train: list[Pair]
    dev: list[Pair]
    test: list[Pair]

    def __repr__(self) -> str:
        return (
            f"ParallelText({self.source_language}-{self.target_language}: {len(self.train):,} "
            f"training, {len(self.dev):,} development, {len(self.test):,} test pairs)"
        )
