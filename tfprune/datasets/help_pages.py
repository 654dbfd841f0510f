"""Help pages of LibreOffice: fetched, and read into paragraphs."""

from __future__ import annotations

import re
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
