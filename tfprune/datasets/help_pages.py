"""Help pages of LibreOffice: fetched, and read into paragraphs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from html.parser import HTMLParser
from pathlib import Path

from tfprune.datasets.debian import fetch_packages

FOLDERS = {"en": "en-US", "de": "de", "es": "es", "fr": "fr"}
_PACKAGES = {language: f"libreoffice-help-{code.lower()}" for language, code in FOLDERS.items()}


def fetch_pages(languages, temporary: Path) -> Path:
    """Downloads the help pages of some languages, and unpacks them."""
    return fetch_packages([_PACKAGES[language] for language in languages], temporary)


class _Paragraphs(HTMLParser):
    """Collects the text of elements that carry a paragraph id."""

    def __init__(self):
        super().__init__()
        self.texts: dict[str, str] = {}
        self._id: str | None = None
        self._tag = ""
        self._parts: list[str] = []

    def handle_starttag(self, tag, attrs):
        identifier = dict(attrs).get("id") or ""
        if tag in ("p", "h1", "h2", "h3", "h4", "h5", "h6") and identifier.startswith(
            ("par_", "hd_")
        ):
            self._id, self._tag, self._parts = identifier, tag, []
        elif tag == "br":
            self._parts.append(" ")

    def handle_data(self, data):
        self._parts.append(data)

    def handle_endtag(self, tag):
        if self._id and tag == self._tag:
            text = re.sub(r"\s+", " ", "".join(self._parts)).strip()
            if text:
                self.texts.setdefault(self._id, text)
            self._id = None


def read_pages(root: Path, language: str) -> dict[str, dict[str, str]]:
    """Page path -> paragraph id -> text."""
    homes = [p for p in root.rglob(FOLDERS[language]) if (p / "text").is_dir()]
    if root.name == FOLDERS[language] and (root / "text").is_dir():
        homes.append(root)
    if not homes:
        raise ValueError(
            f"`folder` must hold help pages in {FOLDERS[language]}/text. Received: folder={root}"
        )
    pages = {}
    for home in homes:
        for path in sorted((home / "text").rglob("*.html")):
            parser = _Paragraphs()
            parser.feed(path.read_text(encoding="utf-8", errors="replace"))
            pages[path.relative_to(home).as_posix()] = parser.texts
    return pages


def is_translated(source: str, target: str) -> bool:
    """Leaves out code, names and what nobody translated."""
    if source == target or not re.search(r"[^\W\d_]{2}", source):
        return False
    longer, shorter = max(len(source), len(target)), min(len(source), len(target))
    return longer < 4 * shorter + 20


def dealt_out(pages: Iterable[str], held_out: Mapping[int, str], parts: int):
    """Says in which split each page is, by a hash of its name: held-out pages first.

    Whoever takes a text that occurs on several pages once, from the first of them, takes it for a
    held-out split if one of the pages is held out.

    Args:
        pages: Their names.
        held_out: Number of a part to the split that it is held out for; other parts are `"train"`.
        parts: Into how many parts the pages are dealt.

    Returns:
        List of `(page, split)`.
    """
    place = {page: held_out.get(stable_hash(page) % parts, "train") for page in pages}
    order = sorted(place, key=lambda page: (place[page] == "train", stable_hash(page)))
    return [(page, place[page]) for page in order]


def stable_hash(item) -> int:
    """A hash that is the same in every run, for splits and for an order without meaning."""
    return int.from_bytes(hashlib.sha256(repr(item).encode()).digest()[:8], "big")
