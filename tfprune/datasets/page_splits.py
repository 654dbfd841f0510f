"""Splits of text that comes in pages: the same in every run, and apart from each other."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

from tfprune.datasets.parallel import Pair

_HELD_OUT = {0: "dev", 1: "test"}  # of sixteen pages, one each


def split_by_page(pages: Mapping[str, Iterable[Pair]]) -> dict[str, list[Pair]]:
    """Deals pairs into splits by page, each source text once.

    Args:
        pages: Name of a page to its pairs.

    Returns:
        `"train"`, `"dev"` and `"test"`; pairs that nobody translated are left out.
    """
    splits: dict[str, list[Pair]] = {"train": [], "dev": [], "test": []}
    taken: set[str] = set()
    for page, split in dealt_out(pages, _HELD_OUT, 16):
        for pair in pages[page]:
            if pair[0] not in taken and is_translated(*pair):
                taken.add(pair[0])
                splits[split].append(pair)
    return {name: sorted(pairs, key=stable_hash) for name, pairs in splits.items()}


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
