import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfprune.datasets.roff_text import UNREADABLE, arguments, plain


@pytest.mark.parametrize(
    ("roff", "text"),
    [
        (r"\fBls\fP \- \fIlist\fR", "ls - list"),
        (r"\f[B]bold\f[] and \f(CWcode\fP", "bold and code"),
        (r"it\(aqs \(lqquoted\(rq \[em] so \*(Aqshort\*(Aq", "it's “quoted” — so 'short'"),
        (r"\s-1SMALL\s0 \s+2x\s0", "SMALL x"),
        (r"C:\e \\ \[rs]", "C:\\ \\ \\"),
        (r"a\ b\~c\&.\|d\^e\%f\/\,", "a b c.def"),
        (r"\h'-04'\(bu\h'+03'item \w'x'u", "•item u"),
        (r"caf\['e] \[u00E9] \N'233' \[:u]ber \(ss", "café é é über ß"),
        ("two   spaces", "two spaces"),
        (r"on\c  and on", "onand on"),
        (r"print \\c now, C:\\code", r"print \c now, C:\code"),
        (r"\m[blue]word\m[] \n(.g end", "word end"),
    ],
)
def test_escapes(roff, text):
    assert plain(roff) == text


CODES = [r"\[u110000]", r"\[uD800]", r"\N'99999999999'", r"\o'a\(ga'"]


UNKNOWN = [r"\[nosuch]", r"\(zz", r"\*(XX", r"\['1]", r"\*[own]", r"\y"]


@pytest.mark.parametrize("roff", UNKNOWN + CODES)
def test_unknown_escapes_are_marked(roff):
    assert UNREADABLE in plain(f"a {roff} b")


@given(st.text(string.ascii_letters + string.digits + "äöü».,:;()-", min_size=1))
def test_text_without_escapes_stays(text):
    assert plain(text) == text


@given(st.text(string.printable))
def test_no_text_is_too_strange(text):
    assert "  " not in plain(text)
    arguments(text)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ls (1) ,", ["ls", "(1)", ","]),
        ('"see also" b', ["see also", "b"]),
        ('"say ""yes"""', ['say "yes"']),
        (r"a\ b c", [r"a\ b", "c"]),
        ('"open end', ["open end"]),
        ("", []),
    ],
)
def test_arguments(line, words):
    assert arguments(line) == words
