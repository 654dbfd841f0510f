"""Human-translated help pages and interface strings of LibreOffice."""

from __future__ import annotations

import gettext
import os
import re
import tempfile
from pathlib import Path

from tfprune.datasets import cache as caching
from tfprune.datasets.debian import fetch_packages
from tfprune.datasets.help_pages import FOLDERS, fetch_pages, read_pages
from tfprune.datasets.page_splits import is_translated, split_by_page
from tfprune.datasets.parallel import Pair, ParallelText

_VERSION = 1


def libreoffice_help(
    source: str = "en",
    target: str = "de",
    folder: str | os.PathLike | None = None,
    cache: str | os.PathLike | None = None,
    interface_strings: bool = False,
) -> ParallelText:
    """Help text of LibreOffice in two languages, translated by people (MPL-2.0).

    Paragraphs carry the same id in every language. They are aligned by page and id, cleaned of
    markup, and de-duplicated. Splits are made by page, so that no page is in two splits, and no
    source sentence is in two splits. About 30,000 pairs.

    Args:
        source: `"en"`, `"de"`, `"es"` or `"fr"`.
        target: Another of them.
        folder: A folder that holds the help pages, such as an unpacked `libreoffice-help-de`
            package or `/usr/share/libreoffice/help`. By default the Debian packages are fetched
            with `apt-get download` (no rights are needed) and unpacked to a temporary folder.
        cache: Where the prepared pairs are kept. Default: `TFPRUNE_CACHE` or `~/.cache/tfprune`.
        interface_strings: Add menus and messages from `libreoffice-l10n-*` to the training split;
            English source only.

    Returns:
        `ParallelText`.

    Raises:
        ValueError: If a language is unknown, or the folder holds no pages of it.
        RuntimeError: If there is neither a folder nor a package manager to fetch from.

    Example:

    >>> text = tfprune.datasets.libreoffice_help("en", "de")  # doctest: +SKIP
    """
    for name, language in (("source", source), ("target", target)):
        if language not in FOLDERS:
            raise ValueError(
                f"`{name}` must be one of {', '.join(FOLDERS)}. Received: {name}={language!r}"
            )
    if source == target:
        raise ValueError(f"`source` and `target` must differ. Received: {source!r} twice")
    if interface_strings and source != "en":
        raise ValueError(
            f"`interface_strings` are translated from English. Received: source={source!r}"
        )
    name = f"libreoffice_help-{source}-{target}{'-ui' if interface_strings else ''}-v{_VERSION}"

    def make():
        with tempfile.TemporaryDirectory() as temporary:
            root = Path(folder) if folder else fetch_pages((source, target), Path(temporary))
            data = _split(read_pages(root, source), read_pages(root, target))
            if interface_strings:
                ui = fetch_packages([f"libreoffice-l10n-{target}"], Path(temporary) / "l10n")
                held_out = {s for split in ("dev", "test") for s, _ in data[split]}
                known = {s for s, _ in data["train"]}
                data["train"] += [
                    p for p in _interface(ui) if p[0] not in held_out and p[0] not in known
                ]
        return data

    data = caching.kept(name, cache, folder, make)
    splits = {key: [tuple(pair) for pair in pairs] for key, pairs in data.items()}
    return ParallelText(source, target, **splits)


def _split(source_pages, target_pages) -> dict[str, list[Pair]]:
    pages = {}
    for page in source_pages.keys() & target_pages.keys():
        source, target = source_pages[page], target_pages[page]
        shared = sorted(source.keys() & target.keys())
        pages[page] = [(source[identifier], target[identifier]) for identifier in shared]
    return split_by_page(pages)


def _interface(root: Path) -> list[Pair]:
    pairs: dict[str, str] = {}
    for path in sorted(root.rglob("*.mo")):
        with path.open("rb") as file:
            # Private; in public there is no list of the texts.
            catalog = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
        for key, value in catalog.items():
            if isinstance(key, str) and isinstance(value, str) and key:
                source, target = (_clean(t.split("\x04")[-1]) for t in (key, value))
                if source and target and is_translated(source, target):
                    pairs.setdefault(source, target)
    return list(pairs.items())


def _clean(text: str) -> str:
    """Takes out keyboard marks and line breaks."""
    return re.sub(r"\s+", " ", re.sub(r"[_~](?=\w)", "", text)).strip()
