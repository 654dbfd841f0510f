"""What translates: the type of what is evaluated and of teachers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Translates(Protocol):
    """Anything that translates sentences, such as a `Translator` or a file of one."""

    def translate(
        self, sentences: Sequence[str], *, beam: int = ..., batch_size: int = ...
    ) -> list[str]:
        """One translation for each sentence."""
        ...
