"""Colours and markers: one for one thing, in every picture."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Style(NamedTuple):
    """How a method or a kind of structure is drawn."""

    colour: str
    marker: str = "o"


# Okabe and Ito's palette, which colour-blind readers can tell apart, and others that keep apart
# from it and from white.
METHODS = {
    "dense": Style("#555555", "D"),
    "gradient importance": Style("#0072B2", "o"),
    "dynamic sparsity": Style("#56B4E9", "p"),
    "magnitude": Style("#E69F00", "s"),
    "random": Style("#8C8C8C", "X"),
    "movement": Style("#009E73", "^"),
    "hard concrete": Style("#CC79A7", "P"),
    "group lasso": Style("#D55E00", "d"),
    "layers left out": Style("#7A4B1E", "v"),
    "lottery": Style("#6A4C9C", "h"),
    "from scratch": Style("#B2182B", "*"),
    "activation": Style("#8F9A00", "<"),
    "reconstruction": Style("#00707A", ">"),
}
KINDS = {
    "heads": Style("#0072B2"),
    "ffn": Style("#E69F00"),
    "units": Style("#009E73"),
    "ranks": Style("#CC79A7"),
}
# Of what is not known; none of the colours of methods.
_OTHERS = ("#3949AB", "#43A047", "#000000", "#F06292", "#A1887F", "#00ACC1")
_MARKERS = ("o", "s", "^", "v")


def styles(names: Iterable[str], known: dict[str, Style] | None = None) -> dict[str, Style]:
    """Gives each name a colour and a marker.

    Args:
        names: What is drawn. A name that begins with a known one, as `"dense int8"` or
            `"hard concrete gates"`, is drawn as that.
        known: Name to style; `METHODS` by default. Other names get, in their order, what no known
            name among them has.

    Returns:
        Name to `Style`.

    Example:

    >>> styles(["gradient importance", "magnitude, int8"])["magnitude, int8"].marker
    's'
    """
    known = METHODS if known is None else known
    names = list(dict.fromkeys(names))
    found = {name: _known(name, known) for name in names}
    unknown = [name for name in names if found[name] is None]
    # Where the colours are at an end, the markers tell apart.
    given = {
        name: Style(_OTHERS[i % len(_OTHERS)], _MARKERS[i // len(_OTHERS) % len(_MARKERS)])
        for i, name in enumerate(unknown)
    }
    return {name: found[name] or given[name] for name in names}


def _known(name, known):
    begins = [k for k in known if name == k or name.startswith((f"{k} ", f"{k},", f"{k}:"))]
    return known[max(begins, key=len)] if begins else None
