"""Human-translated help pages and interface strings of LibreOffice."""

from __future__ import annotations

import gettext
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from html.parser import HTMLParser
from pathlib import Path

from tfprune.datasets import cache as caching
from tfprune.datasets.parallel import Pair, ParallelText

_FOLDERS = {"en": "en-US", "de": "de", "es": "es", "fr": "fr"}
_PACKAGES = {language: f"libreoffice-help-{code.lower()}" for language, code in _FOLDERS.items()}
_HELD_OUT = {0: "dev", 1: "test"}  # of sixteen pages, one each
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
        if language not in _FOLDERS:
            raise ValueError(
                f"`{name}` must be one of {', '.join(_FOLDERS)}. Received: {name}={language!r}"
            )
    if source == target:
        raise ValueError(f"`source` and `target` must differ. Received: {source!r} twice")
    if interface_strings and source != "en":
        raise ValueError(
            f"`interface_strings` are translated from English. Received: source={source!r}"
        )
    name = f"libreoffice_help-{source}-{target}{'-ui' if interface_strings else ''}-v{_VERSION}"
    path = caching.cache_folder(cache) / f"{name}.json.gz"
    data = caching.read(path) if folder is None else None
    if data is None:
        with tempfile.TemporaryDirectory() as temporary:
            root = Path(folder) if folder else _fetch((source, target), Path(temporary))
            data = _split(_pages(root, source), _pages(root, target))
            if interface_strings:
                ui = _fetch_packages([f"libreoffice-l10n-{target}"], Path(temporary) / "l10n")
                held_out = {s for split in ("dev", "test") for s, _ in data[split]}
                known = {s for s, _ in data["train"]}
                data["train"] += [
                    p for p in _interface(ui) if p[0] not in held_out and p[0] not in known
                ]
        if folder is None:
            caching.write(path, data)
    splits = {key: [tuple(pair) for pair in pairs] for key, pairs in data.items()}
    return ParallelText(source, target, **splits)


def _fetch(languages, temporary: Path) -> Path:
    return _fetch_packages([_PACKAGES[language] for language in languages], temporary)


def _fetch_packages(packages: list[str], temporary: Path) -> Path:
    """Downloads Debian packages with the package manager and unpacks them."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise RuntimeError(
            f"The help pages come from the Debian packages {', '.join(packages)}, and this machine "
            "has no apt-get. Fetch and unpack them elsewhere and pass `folder=`, or use "
            "`number_words()`, which needs no download."
        )
    temporary.mkdir(parents=True, exist_ok=True)
    command = ["apt-get", "download", *packages]
    result = subprocess.run(command, cwd=temporary, capture_output=True, text=True)
    if result.returncode:
        subprocess.run(["apt-get", "update"], capture_output=True)
        result = subprocess.run(command, cwd=temporary, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(
            f"`{' '.join(command)}` failed: {result.stderr.strip()} Run `apt-get update` with the "
            "rights it needs, or unpack the packages elsewhere and pass `folder=`."
        )
    for package in sorted(temporary.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(package), str(temporary)], check=True)
    return temporary


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


def _pages(root: Path, language: str) -> dict[str, dict[str, str]]:
    """Page path -> paragraph id -> text."""
    homes = [p for p in root.rglob(_FOLDERS[language]) if (p / "text").is_dir()]
    if root.name == _FOLDERS[language] and (root / "text").is_dir():
        homes.append(root)
    if not homes:
        raise ValueError(
            f"`folder` must hold help pages in {_FOLDERS[language]}/text. Received: folder={root}"
        )
    pages = {}
    for home in homes:
        for path in sorted((home / "text").rglob("*.html")):
            parser = _Paragraphs()
            parser.feed(path.read_text(encoding="utf-8", errors="replace"))
            pages[path.relative_to(home).as_posix()] = parser.texts
    return pages


def _split(source_pages, target_pages) -> dict[str, list[Pair]]:
    splits: dict[str, list[Pair]] = {"train": [], "dev": [], "test": []}
    taken: set[str] = set()
    pages = sorted(source_pages.keys() & target_pages.keys())
    # Held-out pages choose first, so that common sentences do not thin them out.
    place = {page: _HELD_OUT.get(_hash(page) % 16, "train") for page in pages}
    for page in sorted(pages, key=lambda page: (place[page] == "train", _hash(page))):
        source, target = source_pages[page], target_pages[page]
        for identifier in sorted(source.keys() & target.keys()):
            pair = (source[identifier], target[identifier])
            if pair[0] not in taken and _is_translated(*pair):
                taken.add(pair[0])
                splits[place[page]].append(pair)
    return {name: sorted(pairs, key=_hash) for name, pairs in splits.items()}


def _is_translated(source: str, target: str) -> bool:
    """Leaves out code, names and what nobody translated."""
    if source == target or not re.search(r"[^\W\d_]{2}", source):
        return False
    longer, shorter = max(len(source), len(target)), min(len(source), len(target))
    return longer < 4 * shorter + 20


def _hash(item) -> int:
    return int.from_bytes(hashlib.sha256(repr(item).encode()).digest()[:8], "big")


def _interface(root: Path) -> list[Pair]:
    pairs: dict[str, str] = {}
    for path in sorted(root.rglob("*.mo")):
        with path.open("rb") as file:
            catalog = gettext.GNUTranslations(file)._catalog
        for key, value in catalog.items():
            if isinstance(key, str) and isinstance(value, str) and key:
                source, target = (_clean(t.split("\x04")[-1]) for t in (key, value))
                if source and target and _is_translated(source, target):
                    pairs.setdefault(source, target)
    return list(pairs.items())


def _clean(text: str) -> str:
    """Takes out keyboard marks and line breaks."""
    return re.sub(r"\s+", " ", re.sub(r"[_~](?=\w)", "", text)).strip()
