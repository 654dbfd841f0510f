"""Manual pages of Linux programs, translated by people."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tfprune.datasets import cache as caching
from tfprune.datasets.man_alignment import paired_paragraphs
from tfprune.datasets.man_files import LANGUAGES, fetch_man_pages, find_man_pages, read_man_page
from tfprune.datasets.page_splits import split_by_page
from tfprune.datasets.parallel import Pair, ParallelText

_VERSION = 2


def man_pages(
    source: str = "en",
    target: str = "de",
    folder: str | os.PathLike | None = None,
    cache: str | os.PathLike | None = None,
) -> ParallelText:
    """Manual pages of Linux in English and another language, translated by people.

    The translations are those of the project manpages-l10n (GPL-3+), which translates paragraph by
    paragraph. Pages and their translations are free, under licenses that differ from page to page,
    such as GPL-3+ for coreutils and LGPL-2.1+ for systemd; `/usr/share/doc/*/copyright` of the
    packages lists them. tfprune contains none of this text.

    Paragraphs are aligned where both pages have the same headings and kinds of paragraphs in the
    same order; code, tables and syntax are left out, and so are pages in the macros of mdoc(7).
    Pairs are kept if both sides name the same numbers, options and other pages. They are cleaned
    of markup and de-duplicated. Splits are made by page, so that no page is in two splits, and
    neither a source nor a target text is in two splits. About 27,000 pairs with German, 23,000 with
    French and 6,000 with Spanish.

    Args:
        source: `"en"`, `"de"`, `"es"` or `"fr"`.
        target: Another of them; one of both is English, from which the others are translated.
        folder: A folder that holds the pages of both, such as `/usr/share/man` where
            `manpages-de` is installed. By default the Debian packages are fetched with
            `apt-get download` (no rights are needed) and unpacked to a temporary folder.
        cache: Where the prepared pairs are kept. Default: `TFPRUNE_CACHE` or `~/.cache/tfprune`.

    Returns:
        `ParallelText`.

    Raises:
        ValueError: If a language is unknown, none or both are English, or the folder holds no
            pages that make pairs.
        RuntimeError: If there is no folder, and the packages cannot be fetched.

    Example:

    >>> text = tfprune.datasets.man_pages("en", "de")  # doctest: +SKIP
    """
    for name, language in (("source", source), ("target", target)):
        if language not in LANGUAGES:
            raise ValueError(
                f"`{name}` must be one of {', '.join(LANGUAGES)}. Received: {name}={language!r}"
            )
    if (source == "en") == (target == "en"):
        raise ValueError(
            "One of `source` and `target` must be 'en', the other one another language. "
            f"Received: source={source!r}, target={target!r}"
        )

    def make():
        language = target if source == "en" else source
        with tempfile.TemporaryDirectory() as temporary:
            root = Path(folder) if folder else fetch_man_pages(language, Path(temporary))
            pages = _pairs(root, language)
        if not any(pages.values()):
            raise ValueError(
                "`folder` must hold pages in the macros of man(7), plain or as .gz, that are there "
                f"in both languages. Received: folder={folder}, in which no paragraphs make a pair"
            )
        if source != "en":
            pages = {page: [(b, a) for a, b in pairs] for page, pairs in pages.items()}
        return _without_shared_targets(split_by_page(pages))

    data = caching.kept(f"man_pages-{source}-{target}-v{_VERSION}", cache, folder, make)
    splits = {key: [tuple(pair) for pair in pairs] for key, pairs in data.items()}
    return ParallelText(source, target, **splits)


def _pairs(root: Path, language: str) -> dict[str, list[Pair]]:
    english, translations = find_man_pages(root, "en"), find_man_pages(root, language)
    return {
        page: paired_paragraphs(
            read_man_page(english[page], "en"), read_man_page(translations[page], language)
        )
        for page in sorted(english.keys() & translations.keys())
    }


def _without_shared_targets(splits: dict[str, list[Pair]]) -> dict[str, list[Pair]]:
    """Two source texts may have one translation, which would be in two splits."""
    elsewhere: set[str] = set()
    apart = {}
    for name in ("test", "dev", "train"):
        apart[name] = [pair for pair in splits[name] if pair[1] not in elsewhere]
        elsewhere.update(target for _, target in apart[name])
    return apart
