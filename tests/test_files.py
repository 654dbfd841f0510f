"""Files and folders are written whole or not at all, and nothing else is lost."""

import os

import pytest

from tfprune.files import atomic_write


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*.txt")}


def write(folder, text="new"):
    folder.mkdir()
    (folder / "a.txt").write_text(text)


def replace(folder, **options):
    with atomic_write(folder, folder=True, **options) as temporary:
        write(temporary)


def test_a_file_is_replaced_only_if_nothing_fails(tmp_path):
    path = tmp_path / "deep" / "x.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("1")
    with pytest.raises(RuntimeError), atomic_write(path) as temporary:
        temporary.write_text("2")
        raise RuntimeError
    assert path.read_text() == "1" and os.listdir(path.parent) == ["x.txt"]
    with atomic_write(path) as temporary:
        temporary.write_text("3")
    assert path.read_text() == "3" and os.listdir(path.parent) == ["x.txt"]


def test_a_folder_with_something_else_in_it_is_refused(tmp_path):
    folder = tmp_path / "thesis"
    write(folder, "years of work")
    before = content(tmp_path)
    with pytest.raises(ValueError, match=r"`path` must be new.*which holds a\.txt"):
        replace(folder)
    assert content(tmp_path) == before
    replace(folder, may_replace=lambda f: (f / "a.txt").exists())
    assert content(tmp_path) == {"thesis/a.txt": "new"}


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "empty").mkdir()
    replace(tmp_path / "empty")
    assert content(tmp_path) == {"empty/a.txt": "new"}


@pytest.mark.parametrize("where", [".", "inner"])
def test_the_working_folder_is_never_moved(tmp_path, monkeypatch, where):
    (tmp_path / "here" / "inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / where)
    with pytest.raises(ValueError, match="must not hold the working folder"):
        replace(tmp_path / "here", may_replace=lambda f: True)


def test_a_file_is_no_folder_and_a_folder_no_file(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="which is a file"):
        replace(tmp_path / "file")
    with pytest.raises(ValueError, match="which is a folder"), atomic_write(tmp_path) as temporary:
        temporary.write_text("x")
    below = tmp_path / "file" / "below"
    with (
        pytest.raises(ValueError, match="`path` must be writable"),
        atomic_write(below) as temporary,
    ):
        temporary.write_text("x")


def test_the_old_folder_comes_back_if_the_new_one_cannot_take_its_name(tmp_path, monkeypatch):
    write(tmp_path / "out", "old")
    rename = os.replace

    def failing(source, target):
        if os.fspath(source).endswith("out") and os.fspath(target) == str(tmp_path / "out"):
            raise OSError("no space left")
        rename(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="no space"):
        replace(tmp_path / "out", may_replace=lambda f: True)
    assert content(tmp_path) == {"out/a.txt": "old"}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", range(3))
def test_an_interruption_at_any_rename_leaves_the_old_or_the_new(
    tmp_path, monkeypatch, call, after
):
    write(tmp_path / "out", "old")
    rename, calls = os.replace, []

    def interrupted(source, target):
        calls.append(source)
        now = len(calls) == call + 1
        if now and not after:
            raise KeyboardInterrupt
        rename(source, target)
        if now:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    happens = call < 2  # There are two where nothing goes wrong.
    try:
        replace(tmp_path / "out", may_replace=lambda f: True)
        assert not happens
    except KeyboardInterrupt:
        assert happens
    new = call == 2 or (call == 1 and after)
    assert content(tmp_path) == {"out/a.txt": "new" if new else "old"}
    assert os.listdir(tmp_path) == ["out"]


def test_an_interruption_between_the_renames_of_a_file(tmp_path, monkeypatch):
    (tmp_path / "x.txt").write_text("old")

    def interrupted(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), atomic_write(tmp_path / "x.txt") as temporary:
        temporary.write_text("new")
    assert content(tmp_path) == {"x.txt": "old"}
