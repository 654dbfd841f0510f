"""Which module of LibreOffice a paragraph of help is about, in several languages."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tfprune.datasets import cache as caching
from tfprune.datasets.help_pages import FOLDERS, fetch_pages, read_pages
from tfprune.datasets.labelled import LabelledText
from tfprune.datasets.page_splits import dealt_out, is_translated, stable_hash

# Folder to class; pages that all modules share have none.
_MODULES = {
    "sbasic": "Basic",
    "scalc": "Calc",
    "schart": "Chart",
    "sdatabase": "Base",
    "sdraw": "Draw",
    "simpress": "Impress",
    "smath": "Math",
    "swriter": "Writer",
}
_FEWEST_WORDS = 5
_HELD_OUT = {0: "dev", 1: "test"}  # of eight pages, one each
_VERSION = 1


def help_topics(
    languages: Sequence[str] = ("en", "de", "es", "fr"),
    folder: str | os.PathLike | None = None,
    cache: str | os.PathLike | None = None,
) -> dict[str, LabelledText]:
    """Paragraphs of LibreOffice's help and the module they are about, language by language.

    A page and its translations are in the same split in all languages. A paragraph that occurs
    twice is taken once, from a held-out page if it is on one, so that no text of a split is in
    another; what nobody translated is left out. 14,000 to 17,000 paragraphs in each language.

    Args:
        languages: `"en"`, `"de"`, `"es"`, `"fr"` or some of them; paragraphs are told apart by
            their text in the first.
        folder: As in `libreoffice_help`.
        cache: Where the prepared text is kept. Default: `TFPRUNE_CACHE` or `~/.cache/tfprune`.

    Returns:
        Language to `LabelledText`; the classes are Basic, Calc, Chart, Base, Draw, Impress, Math
        and Writer in all of them.

    Raises:
        ValueError: If a language is unknown or given twice, or the folder holds no pages of it.
        RuntimeError: If there is neither a folder nor a package manager to fetch from.

    Example:

    >>> topics = tfprune.datasets.help_topics(("en", "de"))  # doctest: +SKIP
    >>> topics["de"].train[0]  # doctest: +SKIP
    """
    languages = tuple(languages)
    if not languages or len(set(languages)) < len(languages) or set(languages) - set(FOLDERS):
        raise ValueError(
            f"`languages` must be some of {', '.join(FOLDERS)}, each once. Received: {languages!r}"
        )

    def make():
        with tempfile.TemporaryDirectory() as temporary:
            root = Path(folder) if folder else fetch_pages(languages, Path(temporary))
            return _splits({language: read_pages(root, language) for language in languages})

    name = f"help_topics-{'-'.join(languages)}-v{_VERSION}"
    data = caching.kept(name, cache, folder, make)
    classes = tuple(_MODULES.values())
    return {
        language: LabelledText(
            classes, **{name: [(text, label) for text, label in rows] for name, rows in of.items()}
        )
        for language, of in data.items()
    }


def _splits(pages) -> dict[str, dict[str, list[tuple[str, int]]]]:
    languages = list(pages)
    first = pages[languages[0]]
    splits: dict[str, dict[str, list[tuple[str, int]]]] = {
        language: {"train": [], "dev": [], "test": []} for language in languages
    }
    taken: dict[str, set[str]] = {language: set() for language in languages}
    labels = {folder: number for number, folder in enumerate(_MODULES)}
    for page, split in dealt_out(first, _HELD_OUT, 8):
        label = labels.get(page.split("/")[1])
        if label is None:
            continue
        for identifier, original in sorted(first[page].items()):
            if original in taken[languages[0]]:
                continue
            taken[languages[0]].add(original)
            for language in languages:
                text = pages[language].get(page, {}).get(identifier, "")
                mine = language == languages[0]
                if not mine and (text in taken[language] or not is_translated(original, text)):
                    continue
                taken[language].add(text)
                if len(text.split()) >= _FEWEST_WORDS:
                    splits[language][split].append((text, label))
    return {
        language: {name: sorted(rows, key=stable_hash) for name, rows in of.items()}
        for language, of in splits.items()
    }
