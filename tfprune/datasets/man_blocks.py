"""Manual pages in the man(7) macros, read into headings and paragraphs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from tfprune.datasets.roff_text import UNREADABLE, arguments, plain


class Block(NamedTuple):
    """A part of a page that stands by itself.

    Args:
        kind: `"heading"`, `"subheading"`, `"tag"` (the term in a list), `"paragraph"` or
            `"literal"` (code, tables and syntax).
        text: Plain text; empty for literal blocks and where a macro is not known.
    """

    kind: str
    text: str


_HEADINGS = {"SH": "heading", "SS": "subheading"}
_BREAKS = {"PP", "P", "LP", "HP", "RS", "RE", "sp", "br", "in", "ti", "Sp", "INDENT", "UNINDENT"}
_WORDS = {"B", "I", "R", "SM", "SB", "CW"}
_ALTERNATING = {a + b for a in "BIR" for b in "BIR" if a != b}
_LITERAL = {"nf": "fi", "EX": "EE", "TS": "TE", "EQ": "EN", "PS": "PE", "SY": "YS", "Vb": "Ve"}
_DEFINITIONS = {"de", "de1", "am", "ig"}
_CONDITIONS = {"if", "ie", "el", "while"}
# They change how a page looks, not what it says.
_LAYOUT = {
    *("TH", "PD", "ad", "na", "nh", "hy", "ft", "ps", "ta", "ds", "nr", "ll", "pl", "ne", "it"),
    *("tr", "rm", "rr", "ss", "cp", "mso", "so", "als", "lf", "fam", "IX", "DT", "UC", "AT"),
    *("hw", "bp", "do", "ns", "rs", "nop"),
}


def read_blocks(page: str) -> list[Block]:
    """Reads one page.

    Args:
        page: Its source.

    Returns:
        Its blocks in order; none if it does not use the macros of man(7).
    """
    if not re.search(r"^\.\s*TH\b", page, re.MULTILINE):
        return []
    reader = _Reader()
    for request, rest in _lines(page):
        reader.line(request, rest)
    reader.end_block()
    return reader.blocks


def _lines(page: str) -> Iterator[tuple[str | None, str]]:
    """Pairs of a request and its arguments, or `None` and text; without comments and conditions.

    Conditions hold what printers and terminals do differently, such as a bullet, and no sentence.
    """
    lines = iter(re.sub(r"(?<!\\)\\\n", "", page).split("\n"))
    for line in lines:
        text = re.sub(r'(?<!\\)\\["#].*', "", line)
        match = re.match(r"[.']\s*([^\s\\]*)(.*)", text)
        if text != line and text.strip(" .'") == "":
            continue
        if not match:
            yield None, text
            continue
        request, rest = match[1], match[2].strip()
        if request in _DEFINITIONS:
            # A definition begins with its name.
            ends = rest.split()[request != "ig" :]
            end = "." + (ends[0] if ends else ".")
            while next(lines, end).strip() != end:
                pass
        elif request in _CONDITIONS:
            depth = rest.count("\\{") - rest.count("\\}")
            while depth > 0:
                text = next(lines, "\\}" * depth)
                depth += text.count("\\{") - text.count("\\}")
        elif request:
            yield request, rest


class _Reader:
    """Collects the blocks of one page."""

    def __init__(self):
        self.blocks: list[Block] = []
        self._kind = "paragraph"
        self._parts: list[str] = []
        self._literal_until: str | None = None
        self._link: tuple[int, str] | None = None

    def line(self, request: str | None, rest: str) -> None:
        if self._literal_until is not None:
            if request == self._literal_until:
                self._literal_until = None
                return
            if request not in _HEADINGS:
                return
            self._literal_until = None
        if request is None:
            self._text(rest)
        elif request in _HEADINGS:
            self._start(_HEADINGS[request], " ".join(arguments(rest)))
        elif request in _BREAKS:
            self.end_block()
        elif request in ("TP", "TQ"):
            self._start("tag")
        elif request == "IP":
            self._start("tag", "".join(arguments(rest)[:1]))
            self._kind = "paragraph"
        elif request in _LITERAL:
            self._add_literal()
            self._literal_until = _LITERAL[request]
        elif request not in _LAYOUT:
            self._inline(request, rest)

    def end_block(self) -> None:
        text = plain(" ".join(self._parts))
        if text:
            self.blocks.append(Block(self._kind, "" if UNREADABLE in text else text))
        self._kind, self._parts, self._link = "paragraph", [], None

    def _start(self, kind: str, text: str = "") -> None:
        self.end_block()
        self._kind = kind
        if text:
            self._parts = [text]
            self.end_block()

    def _text(self, text: str) -> None:
        if not text.strip():
            self.end_block()
        elif text[0] == " ":
            # Lines that begin with a space are not filled: columns and code.
            self._add_literal()
        else:
            self._parts.append(text)
            # A heading or a tag is one line, unless that says it goes on.
            if self._kind != "paragraph" and not text.endswith("\\c"):
                self.end_block()

    def _add_literal(self) -> None:
        self.end_block()
        if not self.blocks or self.blocks[-1].kind != "literal":
            self.blocks.append(Block("literal", ""))

    def _inline(self, request: str, rest: str) -> None:
        words = arguments(rest)
        if request in ("UR", "MT"):
            self._link = (len(self._parts), "".join(words[:1]))
        elif request in ("UE", "ME"):
            start, address = self._link or (0, "")
            if len(self._parts) == start:
                self._parts.append(address)
            if self._parts:
                self._parts[-1] += "".join(words)
            self._link = None
        elif request == "MR":
            if words:
                name, section, after = [*words, "", ""][:3]
                self._text(f"{name}({section}){after}")
        elif request in _WORDS and words:
            self._text(" ".join(words))
        elif request in _ALTERNATING and words:
            self._text("".join(words))
        elif request not in _WORDS | _ALTERNATING:
            self._parts.append(UNREADABLE)
