"""Labelled texts in three splits."""

from __future__ import annotations

from dataclasses import dataclass

Example = tuple[str, int]


@dataclass(frozen=True)
class LabelledText:
    """Texts with a class each, for training, development and testing.

    Args:
        classes: Names of the classes, in the order of their numbers.
        train: Examples `(text, class)`.
        dev: Examples for choices made during training.
        test: Examples for the final figures.
    """

    classes: tuple[str, ...]
    train: list[Example]
    dev: list[Example]
    test: list[Example]

    def __repr__(self) -> str:
        return (
            f"LabelledText({' | '.join(self.classes)}: {len(self.train):,} training, "
            f"{len(self.dev):,} development, {len(self.test):,} test texts)"
        )
