import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfprune.datasets.man_blocks import read_blocks

PAGE = r"""'\" t
.\" A comment.
.TH LS 1 "September 2022"
.ie \n(.g .ds Aq \(aq
.el       .ds Aq '
.de Own
.PP
hidden
..
.nh
.SH NAME
ls \- list directory contents
.SH "EXIT STATUS"
.PP
It is \" not shown
.B zero
if all is well, see
.BR stat (2) .
.br
Broken

blank
.SS
On its own line
.TP
\fB\-a\fR, \fB\-\-all\fR
do not ignore
entries
.TP
.B \-b
.PD
escapes
.IP \(bu 2
An item,
.ie n \{\
\h'-04'\(bu\h'+03'\c
.\}
.el \{\
.sp -1
.IP \(bu 2.3
.\}
goes on
.nf
code {
.PP
}
.fi
See
.UR https://example.org
the site
.UE .
Or
.MT a@example.org
.ME ,
.I who
.Own thing
reads.
.PP
   columns   here
   columns   there
.EX
literal
.SH END
Ends\c
 here\&.
"""


def test_blocks_of_a_page():
    assert [tuple(block) for block in read_blocks(PAGE)] == [
        ("heading", "NAME"),
        ("paragraph", "ls - list directory contents"),
        ("heading", "EXIT STATUS"),
        ("paragraph", "It is zero if all is well, see stat(2)."),
        ("paragraph", "Broken"),
        ("paragraph", "blank"),
        ("subheading", "On its own line"),
        ("tag", "-a, --all"),
        ("paragraph", "do not ignore entries"),
        ("tag", "-b"),
        ("paragraph", "escapes"),
        ("tag", "•"),
        ("paragraph", "An item, goes on"),
        ("literal", ""),
        ("paragraph", ""),  # A macro of the page's own: what it shows is not known.
        ("literal", ""),
        ("heading", "END"),
        ("paragraph", "Ends"),
        ("literal", ""),
    ]


@pytest.mark.parametrize("page", ["", "plain text", ".Dd $Mdocdate$\n.Dt SSH 1\n.Sh NAME\nssh\n"])
def test_pages_in_other_macros_have_no_blocks(page):
    assert read_blocks(page) == []


@pytest.mark.parametrize("start", [".de X", ".ig", ".if n \\{", ".nf", ".SH", ".TP", ".UR", ".MR"])
def test_what_is_not_closed_is_no_error(start):
    assert read_blocks(f".TH X 1\nText\n{start}")[0] == ("paragraph", "Text")


def test_what_is_ignored_ends_where_it_says():
    page = (
        ".TH X 1\nBefore\n.ig zZ\nhidden\n..\n.zZ\n.de own zZ\nhidden\n.zZ\n.ig\nhidden\n..\nafter"
    )
    assert read_blocks(page) == [("paragraph", "Before after")]


LINES = st.lists(
    st.one_of(
        st.sampled_from([".PP", ".TP", ".br", ".nf", ".fi", ".RS 4", ".RE", "", ".SH A", ".B"]),
        st.text("ab .\\'\"-{}()[]*c", max_size=12),
    )
)


@given(LINES)
def test_no_page_is_too_strange(lines):
    blocks = read_blocks("\n".join([".TH X 1", *lines]))
    for kind, text in blocks:
        assert text == text.strip() and "\0" not in text
        assert not (kind == "literal" and text)


@given(st.lists(st.from_regex("[a-z]{2,8}( [a-z]{2,8}){0,3}", fullmatch=True), min_size=1))
def test_paragraphs_come_back(texts):
    page = ".TH X 1\n.PP\n" + "\n.PP\n".join(texts)
    assert [block.text for block in read_blocks(page)] == texts


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (".MR ls 1 ,", "ls(1),"),
        ('.BI "a b" c', "a bc"),
        (".B\nbold", "bold"),
        (".UR https://example.org\n.UE", "https://example.org"),
        ("See\n.MT a@b.org\nme\n.ME .", "See me."),
        ("one\\\ntwo", "onetwo"),
        ('\'\\" t\n.\\" note\n.\ntext', "text"),
    ],
)
def test_inline_macros(lines, text):
    assert read_blocks(f".TH X 1\n{lines}\n") == [("paragraph", text)]
