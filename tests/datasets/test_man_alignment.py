from hypothesis import given
from hypothesis import strategies as st

from tfprune.datasets.man_alignment import paired_paragraphs
from tfprune.datasets.man_blocks import Block


def blocks(text):
    """Lines `kind: text`."""
    kinds = {"h": "heading", "t": "tag", "p": "paragraph", "l": "literal", "s": "subheading"}
    return [Block(kinds[line[0]], line[3:]) for line in text.strip().split("\n")]


def test_sections_of_the_same_kinds_are_paired():
    english = blocks("""
h: NAME
p: ls - list files
h: SYNOPSIS
p: ls [OPTION]
h: DESCRIPTION
t: --block-size=SIZE
p: use blocks of this size
p: Untranslated text
p: -x, --extra=WORD
l:\x20
p: stops after 3 files
h: SEE ALSO
p: also this page
""")
    german = blocks("""
h: BEZEICHNUNG
p: ls - Dateien auflisten
h: ÜBERSICHT
p: ls [SCHALTER]
h: BESCHREIBUNG
t: --block-size=GRÖSSE
p: Blöcke dieser Größe verwenden
p: Untranslated text
p: -x, --extra=WORT
l:\x20
p: hört nach 3 Dateien auf
h: SIEHE AUCH
p: auch diese Seite
""")
    assert paired_paragraphs(english, german) == [
        ("NAME", "BEZEICHNUNG"),
        ("ls - list files", "ls - Dateien auflisten"),
        ("DESCRIPTION", "BESCHREIBUNG"),
        ("use blocks of this size", "Blöcke dieser Größe verwenden"),
        ("stops after 3 files", "hört nach 3 Dateien auf"),
    ]


def test_other_versions_are_paired_between_lines_that_are_the_same():
    english = blocks("""
h: OPTIONS
p: New in this version
t: -a
p: show everything
t: -b
p: one thing
p: another thing
t: -c
p: close the file
""")
    german = blocks("""
h: OPTIONEN
t: -a
p: alles anzeigen
t: -b
p: eine Sache
t: -c
p: die Datei schließen
""")
    assert paired_paragraphs(english, german) == [
        ("show everything", "alles anzeigen"),
        ("close the file", "die Datei schließen"),
    ]


def test_a_stretch_with_one_implausible_pair_is_left_out_if_versions_differ():
    english = blocks("h: Part\np: first text\np: second text of 2\nt: -a\np: open it\np: more")
    german = blocks("h: Teil\np: zweiter Text von 2\np: erster Text\nt: -a\np: öffne es")
    assert paired_paragraphs(english, german) == []
    assert paired_paragraphs(english[:3], german[:3]) == [("Part", "Teil")]


def test_pages_with_other_headings_are_paired_between_lines_that_are_the_same():
    english = blocks("h: Part\np: one\nt: -a\np: open it\nt: -b\np: x\nh: NEW\np: a new part")
    german = blocks("h: Teil\np: eins\nt: -a\np: öffne es\nt: -b\np: x")
    assert paired_paragraphs(english, german) == [
        ("Part", "Teil"),
        ("one", "eins"),
        ("open it", "öffne es"),
    ]


def test_syntax_is_left_out_of_pages_with_other_headings_too():
    english = blocks("h: SYNOPSIS\np: ls [--all] file\nh: NAME\np: one\nt: -b\np: x\nh: MORE")
    german = blocks("h: ÜBERSICHT\np: ls [--all] Datei\nh: NAME\np: eins\nt: -b\np: x")
    assert paired_paragraphs(english, german) == [("one", "eins")]


def test_pairs_that_name_other_things_or_have_other_lengths_are_left_out():
    def pair(english, german):
        return paired_paragraphs([Block("paragraph", english)], [Block("paragraph", german)])

    assert pair("See stat(2) for more", "Siehe stat(2) für mehr")
    assert not pair("See stat(2) for more", "Siehe stat für mehr")
    assert pair("with --all and -l", "mit dem --all-Schalter und der -l-Option")
    assert not pair("with --all", "mit --almost-all")
    assert not pair("at 1.5 GB", "bei 1,4 GB")
    assert pair("at 1.5 GB", "bei 1,5 GB")
    assert not pair("A short text", "Ein kurzer Text, der auf der anderen Seite viel länger ist")
    assert not pair("Some text", "")
    assert not pair("Some text", "Some text")
    assert not pair("12", "12.")
    assert paired_paragraphs([], []) == []


BLOCKS = st.lists(
    st.builds(
        Block,
        st.sampled_from(["heading", "tag", "paragraph", "literal"]),
        st.sampled_from(["", "one two", "-a", "three", "SYNOPSIS", "see x(1)"]),
    )
)


@given(BLOCKS, BLOCKS)
def test_pairs_are_of_both_pages_and_in_order(english, translation):
    pairs = paired_paragraphs(english, translation)
    for side, page in ((0, english), (1, translation)):
        texts = iter(block.text for block in page)
        assert all(pair[side] in texts for pair in pairs)
    assert all(english and translation and english != translation for english, translation in pairs)


@given(BLOCKS)
def test_a_page_and_itself_hold_no_translation(page):
    assert paired_paragraphs(page, page) == []
