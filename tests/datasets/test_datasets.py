import shutil

import pytest

from tfprune.datasets import cache, libreoffice_help, number_words

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
