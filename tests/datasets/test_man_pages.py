import gzip
import subprocess
from pathlib import Path

import pytest

from tfprune.datasets import man_files, man_pages

ENGLISH = r""".TH TOOL 1
.SH NAME
tool{0} \- do work {0}
.SH SYNOPSIS
.B tool
[\fIFILE\fR]
.SH OPTIONS
.TP
.BR \-q ", " \-\-quiet
Be quiet,
whatever
.I FILE
holds.
.SH EXAMPLES
Work on a file:
.EX
tool some-file
.EE
"""
GERMAN = r""".\" -*- coding: UTF-8 -*-
.TH TOOL 1
.SH BEZEICHNUNG
tool{0} \- Arbeit {0} erledigen
.SH ÜBERSICHT
\fBtool\fP [\fIDATEI\fP]
.SH OPTIONEN
.TP
\fB\-q\fP, \fB\-\-quiet\fP
Ist ruhig, was auch immer \fIDATEI\fP enthält.
.SH BEISPIELE
An einer Datei arbeiten:
.EX
tool eine-datei
.EE
.PP
.SH ÜBERSETZUNG
Die deutsche Übersetzung wurde von jemandem erstellt.
"""
SHARED = {
    ("NAME", "BEZEICHNUNG"),
    ("OPTIONS", "OPTIONEN"),
    ("Be quiet, whatever FILE holds.", "Ist ruhig, was auch immer DATEI enthält."),
    ("EXAMPLES", "BEISPIELE"),
    ("Work on a file:", "An einer Datei arbeiten:"),
}


def write_pages(home, count=60):
    for folder, page in ((home / "man1", ENGLISH), (home / "de" / "man1", GERMAN)):
        folder.mkdir(parents=True)
        for i in range(count):
            content = page.replace("{0}", str(i)).encode()
            (folder / f"tool{i}.1.gz").write_bytes(gzip.compress(content))


@pytest.fixture
def folder(tmp_path):
    write_pages(tmp_path / "tools" / "usr" / "share" / "man")
    return tmp_path / "tools"


def everything(text):
    return [*text.train, *text.dev, *text.test]


def test_pairs_of_pages_are_those_written_out(folder):
    text = man_pages("en", "de", folder=folder)
    pairs = everything(text)
    assert set(pairs) == SHARED | {
        (f"tool{i} - do work {i}", f"tool{i} - Arbeit {i} erledigen") for i in range(60)
    }
    assert len(pairs) == len(set(pairs))
    assert text.dev and text.test and len(text.train) > len(text.dev)
    assert man_pages("en", "de", folder=folder / "usr" / "share" / "man") == text


def test_the_other_direction_has_the_same_splits_where_each_text_has_one_translation(folder):
    text, other = man_pages("en", "de", folder=folder), man_pages("de", "en", folder=folder)
    for split in ("train", "dev", "test"):
        assert {(b, a) for a, b in getattr(text, split)} == set(getattr(other, split))


def test_no_text_is_in_two_splits(tmp_path):
    for language, same in (("", "An old way, number"), ("de", "Veraltet.")):
        home = tmp_path / language / "man1"
        home.mkdir(parents=True)
        for i in range(60):
            word = "Page" if not language else "Seite"
            varied = f"{same} {'abcdefghij'[i % 10] * (i // 10 + 1)}" if not language else same
            page = f".TH X 1\n.SH {word}\n{word} {i}\n.PP\n{varied}\n"
            (home / f"x{i}.1").write_text(page)
    text = man_pages("en", "de", folder=tmp_path)
    for side in (0, 1):
        splits = [{pair[side] for pair in part} for part in (text.train, text.dev, text.test)]
        assert sum(len(split) for split in splits) == len(set.union(*splits))
    assert "Veraltet." in {target for _, target in text.test}


def test_files_that_are_links_or_of_another_section_or_encoding(tmp_path):
    home = tmp_path / "man"
    write_pages(home, 1)
    (home / "man1" / "link.1.gz").symlink_to("tool0.1.gz")
    (home / "man-notes").mkdir()
    (home / "man-notes" / "x.1").write_text("no page")
    assert list(man_files.find_man_pages(tmp_path, "en")) == ["man1/tool0.1"]
    page = home / "man1" / "old.1"
    page.write_bytes(".TH X 1\nfür\n".encode("latin-1"))
    assert man_files.read_man_page(page, "en") == [("paragraph", "für")]


def test_clear_errors(tmp_path, folder):
    with pytest.raises(ValueError, match="`target` must be one of en, de, es, fr. Received.*'it'"):
        man_pages("en", "it")
    for source, target in (("de", "fr"), ("en", "en")):
        with pytest.raises(ValueError, match="One of `source` and `target` must be 'en'"):
            man_pages(source, target)
    with pytest.raises(ValueError, match="`folder` must hold manual pages in fr/man1"):
        man_pages("en", "fr", folder=folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="`folder` must hold manual pages in man1"):
        man_pages("en", "de", folder=tmp_path / "empty")
    for language in ("", "de/"):
        page = tmp_path / "packed" / f"{language}man1" / "a.1.bz2"
        page.parent.mkdir(parents=True)
        page.write_bytes(b"BZh9")
    with pytest.raises(ValueError, match="`folder` must hold pages in the macros of man"):
        man_pages("en", "de", folder=tmp_path / "packed")
    page.with_suffix(".gz").write_bytes(b"no gzip")
    with pytest.raises(ValueError, match="The manual page .*a.1.gz cannot be read"):
        man_files.read_man_page(page.with_suffix(".gz"), "de")


def test_packages_are_fetched_once(tmp_path, monkeypatch):
    calls = []

    def manager(command, cwd=None, **options):
        calls.append(command)
        if command[0] == "apt-get":
            (cwd / "tools_1_all.deb").write_bytes(b"a package")
        else:
            write_pages(Path(command[3]) / "usr" / "share" / "man")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", manager)
    monkeypatch.setattr("shutil.which", lambda name: name)
    with pytest.warns(UserWarning, match="Not the files that were tested"):
        text = man_pages("en", "de", cache=tmp_path)
    assert man_pages("en", "de", cache=tmp_path) == text
    assert len(calls) == 2 and {"manpages", "manpages-de", "manpages-de-dev"} <= set(calls[0])
    assert set(everything(text)) >= SHARED
