"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: str | os.PathLike, folder: bool = False) -> Iterator[Path]:
    """A place to write to that takes its final name only if nothing went wrong.

    Args:
        path: The final name; missing parent folders are made.
        folder: Whether a folder is written.

    Yields:
        A path in the same folder.

    Raises:
        ValueError: If `path` cannot be written or is taken by the other kind.
    """
    path = Path(path)
    if folder and path.is_file():
        raise ValueError(
            f"`path` must be a folder or free. Received: path={str(path)!r}, which is a file."
        )
    if not folder and path.is_dir():
        raise ValueError(
            f"`path` must be a file or free. Received: path={str(path)!r}, which is a folder."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target: a rename within one folder cannot be seen half done.
        workshop = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise ValueError(
            f"`path` must be writable. Received: path={str(path)!r}: {error}"
        ) from error
    try:
        fresh = workshop / path.name
        yield fresh
        if folder and path.exists():
            os.replace(path, workshop / "old")
        os.replace(fresh, path)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
