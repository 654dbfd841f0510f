"""Plain text from lines of roff: escapes and arguments of macros."""

from __future__ import annotations

import re
import sys
import unicodedata

# Stands for what cannot be written as text, so that a paragraph with it can be left out.
UNREADABLE = "\0"

_ESCAPE = re.compile(
    r"""\\(?:
    (?P<font>[fFmM](?:\[[^\]]*\]|\(..|.))
    |(?P<size>s(?:\[[^\]]*\]|'[^']*'|[+-]?\(\d\d|[+-]?\d))
    |(?P<register>n[+-]?(?:\[[^\]]*\]|\(..|.))
    |N'(?P<number>\d+)'
    |(?P<motion>[hvwlLDxb]'[^']*')
    |(?P<is_string>\*)?(?:\[(?P<long>[^\]]*)\]|\((?P<two>..))
    |\*(?P<string>.)
    |(?P<one>.)
    )""",
    re.VERBOSE,
)
_SPECIAL = {
    **{"aq": "'", "dq": '"', "lq": "“", "rq": "”", "oq": "‘", "cq": "’", "Fo": "«", "Fc": "»"},
    **{"em": "—", "en": "–", "hy": "-", "mi": "-", "bu": "•", "co": "©", "rg": "®", "tm": "™"},
    **{"rs": "\\", "ti": "~", "ha": "^", "at": "@", "ga": "`", "aa": "´", "or": "|", "sl": "/"},
    **{"lB": "[", "rB": "]", "Do": "$", "sh": "#", "eq": "=", "pl": "+", "ul": "_", "la": "⟨"},
    **{"ra": "⟩", "mc": "µ", "de": "°", "+-": "±", "mu": "×", "ss": "ß", "sc": "§", "12": "½"},
    **{"lC": "{", "rC": "}", "bv": "|", "ba": "|", "->": "→", "<-": "←", ">=": "≥", "<=": "≤"},
    **{"*m": "μ", "*p": "π", "if": "∞", "lh": "☚", "rh": "☛", "Bq": "„", "tmu": "×", "ell": "…"},
}
# Strings of man(7), and those that pod2man and DocBook define in each page.
_STRINGS = {
    **{"lq": "“", "rq": "”", "Aq": "'", 'L"': "“", 'R"': "”", "C`": '"', "C'": '"', "--": "—"},
    **{"R": "®", "Tm": "™", "dq": '"', "q": '"', "S": ""},
}
_SINGLE = {
    **dict.fromkeys("&)/,|^%:{}pdu!", ""),
    **dict.fromkeys("~0 t", " "),
    **{"-": "-", "e": "\\", "\\": "\\", "'": "´", "`": "`", ".": ".", "_": "_", '"': ""},
}
_ACCENTS = {"'": "\u0301", "`": "\u0300", "^": "\u0302", ":": "\u0308", "~": "\u0303"}
_ACCENTS |= {",": "\u0327", "v": "\u030c", "o": "\u030a"}
_ARGUMENT = re.compile(r'\s*(?:"((?:[^"]|"")*)"?|((?:\\.|\S)+))')


def plain(text: str) -> str:
    r"""Text of one paragraph without escapes; `UNREADABLE` where one is not known.

    Args:
        text: Lines of roff, joined with spaces.

    Returns:
        The text, without fonts, motions and repeated space.
    """
    # After `\c` a line goes on without a space.
    text = re.sub(r"(?<!\\)((?:\\\\)*)\\c\s*", r"\1", text)
    return re.sub(r"\s+", " ", _ESCAPE.sub(_escape, text)).strip()


def arguments(text: str) -> list[str]:
    """Arguments of a macro: words, or several words in double quotes."""
    return [
        word or quoted.replace('""', '"') for quoted, word in _ARGUMENT.findall(text.rstrip("\n"))
    ]


def _escape(match: re.Match) -> str:
    if match["font"] or match["size"] or match["register"] or match["motion"]:
        return ""
    if match["number"]:
        return _character(int(match["number"]))
    if match["one"]:
        return _SINGLE.get(match["one"], UNREADABLE)
    if match["string"] or match["is_string"]:
        name = match["string"] or match["long"] or match["two"] or ""
        return _STRINGS.get(name, UNREADABLE)
    return _special(match["long"] or match["two"] or "")


def _special(name: str) -> str:
    if name in _SPECIAL:
        return _SPECIAL[name]
    code = re.fullmatch(r"u([0-9A-F]{4,6})|char(\d{1,3})", name)
    if code:
        return _character(int(code[1], 16) if code[1] else int(code[2]))
    if len(name) == 2 and name[0] in _ACCENTS and name[1].isalpha():
        letter = unicodedata.normalize("NFC", name[1] + _ACCENTS[name[0]])
        return letter if len(letter) == 1 else UNREADABLE
    return UNREADABLE


def _character(code: int) -> str:
    is_text = code <= sys.maxunicode and not 0xD800 <= code < 0xE000
    return chr(code) if is_text else UNREADABLE
