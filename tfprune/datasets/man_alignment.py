"""Pairs a manual page with its translation, block by block."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import pairwise

from tfprune.datasets.man_blocks import Block
from tfprune.datasets.page_splits import is_translated
from tfprune.datasets.parallel import Pair

# Syntax and lists of pages hold no sentences.
_LEFT_OUT = {"SYNOPSIS", "SEE ALSO"}
# Numbers, options and names with a section are the same in every language.
_INVARIANTS = re.compile(
    r"\d+|(?<![\w-])(?:--[a-z][a-z0-9]*(?:-[a-z0-9]+)*|-[A-Za-z])(?![A-Za-z0-9])|[\w.-]+\(\d\w*\)"
)


def paired_paragraphs(english: Sequence[Block], translation: Sequence[Block]) -> list[Pair]:
    """Pairs paragraphs and headings of one page in two languages.

    A translation may be of a somewhat older page than the English one. So blocks are paired only
    where both have blocks of the same kinds in the same order: from one heading to the next, or
    else between lines that are the same in both languages, such as the name of an option. A pair
    is kept only if both name the same numbers, options and other pages.

    Args:
        english: Blocks of the English page.
        translation: Blocks of its translation.

    Returns:
        Pairs `(english, translation)`.
    """
    pairs = []
    sections, others = _sections(english), _sections(translation)
    if len(sections) != len(others):
        sections, others = [english], [translation]
    for section, other in zip(sections, others, strict=True):
        if section and section[0].text in _LEFT_OUT:
            continue
        for block, counterpart in _aligned(section, other):
            if block.kind in ("tag", "literal") or not (block.text and counterpart.text):
                continue
            if is_translated(block.text, counterpart.text) and (
                set(_INVARIANTS.findall(block.text)) == set(_INVARIANTS.findall(counterpart.text))
            ):
                pairs.append((block.text, counterpart.text))
    return pairs


def _sections(blocks: Sequence[Block]) -> list[Sequence[Block]]:
    starts = [i for i, block in enumerate(blocks) if block.kind == "heading"]
    edges = [0, *starts, len(blocks)]
    return [blocks[a:b] for a, b in pairwise(edges)]


def _aligned(
    english: Sequence[Block], translation: Sequence[Block]
) -> Iterator[tuple[Block, Block]]:
    if _kinds(english) == _kinds(translation):
        yield from zip(english, translation, strict=True)
        return
    a = b = 0
    matcher = SequenceMatcher(None, english, translation, autojunk=False)
    for i, j, size in matcher.get_matching_blocks():
        if _kinds(english[a:i]) == _kinds(translation[b:j]):
            yield from zip(english[a:i], translation[b:j], strict=True)
        a, b = i + size, j + size


def _kinds(blocks: Sequence[Block]) -> list[str]:
    return [block.kind for block in blocks]
