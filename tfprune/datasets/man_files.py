"""Manual pages of Debian packages: fetched, and read into blocks."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

from tfprune.datasets.debian import fetch_packages
from tfprune.datasets.man_blocks import Block, read_blocks

# What the translators add at the end of a page, under this heading.
_NOTES = {"de": "ÜBERSETZUNG", "es": "TRADUCCIÓN", "fr": "TRADUCTION"}
LANGUAGES = ("en", *_NOTES)

# English pages are in the packages of the programs. These give at least two hundred pairs each;
# all together some seventy have pages that are translated.
_ENGLISH = [
    *("manpages", "manpages-dev", "systemd", "systemd-container", "systemd-homed", "udev"),
    *("systemd-boot", "libsane-common", "util-linux", "mount", "fdisk", "bsdextrautils"),
    *("coreutils", "findutils", "tar", "mtools", "less", "nano", "mutt", "nfs-common"),
    *("gettext", "groff-base", "vorbis-tools"),
]


def fetch_man_pages(language: str, temporary: Path) -> Path:
    """Downloads English pages and their translations, and unpacks them."""
    translations = [f"manpages-{language}", f"manpages-{language}-dev"]
    return fetch_packages([*_ENGLISH, *translations], temporary)


def find_man_pages(root: Path, language: str) -> dict[str, Path]:
    """Finds the pages of one language.

    Args:
        root: A folder such as `/usr/share/man`, or one that holds folders named `man`.
        language: One of `LANGUAGES`.

    Returns:
        Name of a page, such as `man1/ls.1`, to its file. Links are left out: the page they lead
        to is there too.

    Raises:
        ValueError: If there are none.
    """
    homes = [root, *(path for path in sorted(root.rglob("man")) if path.is_dir())]
    pages = {
        f"{path.parent.name}/{path.name.removesuffix('.gz')}": path
        for home in homes
        for path in _files(home if language == "en" else home / language)
    }
    if not pages:
        where = "man1" if language == "en" else f"{language}/man1"
        raise ValueError(
            f"`folder` must hold manual pages in {where} and the like. Received: folder={root}"
        )
    return pages


def read_man_page(path: Path, language: str) -> list[Block]:
    """Reads the blocks of one page, without the translators' note at its end."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError) as error:
            raise ValueError(f"The manual page {path} cannot be read: {error}") from error
    try:
        page = content.decode("utf-8")
    except UnicodeDecodeError:
        page = content.decode("latin-1")
    blocks = read_blocks(page)
    note = Block("heading", _NOTES[language]) if language in _NOTES else None
    return blocks[: blocks.index(note)] if note in blocks else blocks


def _files(home: Path) -> Iterator[Path]:
    for section in sorted(home.glob("man*")):
        if re.fullmatch(r"man\d", section.name):
            yield from (p for p in sorted(section.iterdir()) if p.is_file() and not p.is_symlink())
