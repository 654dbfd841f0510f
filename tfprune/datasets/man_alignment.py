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
    is kept only if it is plausible: both name the same numbers, options and other pages, and none
    is much longer than the other.

    Args:
        english: Blocks of the English page.
        translation: Blocks of its translation.

    Returns:
        Pairs `(english, translation)`.
    """
    sections, others = _sections(english), _sections(translation)
    left_out = {
        id(block)
        for section in sections
        if section and section[0].text in _LEFT_OUT
        for block in section
    }
    if len(sections) != len(others):
        sections, others = [english], [translation]
    return [
        (block.text, counterpart.text)
        for section, other in zip(sections, others, strict=True)
        for block, counterpart in _aligned(section, other)
        if id(block) not in left_out
        and _is_prose(block, counterpart)
        and is_translated(block.text, counterpart.text)
        and _is_plausible(block, counterpart)
    ]


def _sections(blocks: Sequence[Block]) -> list[Sequence[Block]]:
    starts = [i for i, block in enumerate(blocks) if block.kind == "heading"]
    return [blocks[a:b] for a, b in pairwise([0, *starts, len(blocks)])]


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
            piece = list(zip(english[a:i], translation[b:j], strict=True))
            # One pair that does not fit may mean that all are shifted or in another order.
            if all(_is_plausible(*pair) for pair in piece if _is_prose(*pair)):
                yield from piece
        a, b = i + size, j + size


def _kinds(blocks: Sequence[Block]) -> list[str]:
    return [block.kind for block in blocks]


def _is_prose(block: Block, counterpart: Block) -> bool:
    """Whether there is text on both sides, and no option of a program that it explains."""
    return (
        block.kind not in ("tag", "literal")
        and bool(block.text and counterpart.text)
        and not block.text.startswith("-")
    )


def _is_plausible(block: Block, counterpart: Block) -> bool:
    longer, shorter = sorted((len(block.text), len(counterpart.text)), reverse=True)
    return longer < 2 * shorter + 20 and (
        set(_INVARIANTS.findall(block.text)) == set(_INVARIANTS.findall(counterpart.text))
    )
