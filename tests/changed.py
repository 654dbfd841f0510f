"""Prints the test files of what differs from main, for `make check`; the closest first.

Tests mirror the tree: `tfprune/gates/gate.py` is tested by `tests/gates/test_gate.py` where there
is one, otherwise by all of `tests/gates`.
"""

import subprocess
from pathlib import Path

DOCSTRINGS = Path("tests/test_docstrings.py")


def git(*arguments):
    done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    return done.stdout.split("\n")[:-1] if done.returncode == 0 else []


def changed():
    """Files that were changed since the branch left main, committed or not."""
    base = git("merge-base", "HEAD", "main") or git("merge-base", "HEAD", "origin/main")
    differ = git("diff", "--name-only", *(base or ["HEAD"]))
    return [Path(name) for name in [*differ, *git("ls-files", "--others", "--exclude-standard")]]


def tests_of(path):
    """Where the tests of one file lie, from near to far; nothing where it has none."""
    if path.parts[0] == "tests":
        if path.name.startswith("test_"):
            return [path]
        return [path.parent] if path.suffix == ".py" else []
    if path.suffix != ".py" or path.parts[0] not in ("tfprune", "callbacks"):
        return []
    inside = path.relative_to("tfprune") if path.parts[0] == "tfprune" else path
    near = Path("tests") / inside.parent / f"test_{path.stem}.py"
    far = [near] if near.exists() else [near.parent] if len(inside.parts) > 1 else []
    return [*far, DOCSTRINGS]


def main():
    found = {path for name in changed() for path in tests_of(name) if path.exists()}
    print(*sorted(found, key=lambda path: (path == DOCSTRINGS, path.is_dir(), path)))


if __name__ == "__main__":
    main()
