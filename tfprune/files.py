"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_write(
    path: str | os.PathLike,
    folder: bool = False,
    may_replace: Callable[[Path], bool] = lambda folder: False,
) -> Iterator[Path]:
    """A place to write to that takes its final name only if nothing went wrong.

    Args:
        path: The final name; missing parent folders are made. A file of that name is replaced, and
            so is an empty folder.
        folder: Whether a folder is written.
        may_replace: Whether a folder that is not empty may be replaced, with all that is in it.

    Yields:
        A path in the same folder.

    Raises:
        ValueError: If `path` cannot be written, is a folder where a file is written or the other
            way round, or is a folder that must not be replaced.
    """
    path = Path(path)
    if folder and path.exists():
        _check_folder(path, may_replace)
    if not folder and path.is_dir():
        raise ValueError(
            f"`path` must be a file or new. Received: path={str(path)!r}, which is a folder."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Next to the target: within one file system a rename cannot be seen half done.
        staging = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise ValueError(
            f"`path` must be writable. Received: path={str(path)!r}: {error}"
        ) from error
    temporary, old = staging / path.name, staging / "old"
    try:
        yield temporary
        if folder and path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
    finally:
        # Whatever happens between the two renames, the old folder comes back.
        if old.exists() and not path.exists():
            os.replace(old, path)
        shutil.rmtree(staging, ignore_errors=True)


def _check_folder(path: Path, may_replace: Callable[[Path], bool]) -> None:
    received = f"Received: path={str(path)!r}"
    if not path.is_dir():
        raise ValueError(f"`path` must be a folder or new. {received}, which is a file.")
    real = path.resolve()
    if real in (Path.cwd(), *Path.cwd().parents):
        raise ValueError(f"`path` must not hold the working folder. {received}, which does.")
    content = sorted(entry.name for entry in path.iterdir())
    if content and not may_replace(path):
        shown = ", ".join(content[:3]) + (", …" if len(content) > 3 else "")
        raise ValueError(
            "`path` must be new, an empty folder or one of the same kind, which is replaced. "
            f"{received}, which holds {shown}."
        )


def load_keras(path: str | os.PathLike, compiled: bool = False) -> Any:
    """The model in a `.keras` file.

    Args:
        path: The file.
        compiled: Whether it is to be compiled as it was when it was saved, if it was.

    Raises:
        ValueError: If there is no such file, it is damaged, or it holds no model.
    """
    if not os.path.isfile(path):
        raise ValueError(f"There is no file {os.fspath(path)!r}.")
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except Exception as error:  # Damaged archives raise many kinds.
        raise ValueError(
            f"{os.fspath(path)!r} is no .keras file, or it is damaged: {error}"
        ) from error
    if broken:
        raise ValueError(f"{os.fspath(path)!r} is damaged: the checksum of {broken} is wrong.")
    import keras

    try:
        return keras.saving.load_model(path, compile=compiled)
    except Exception as error:  # Keras raises what its layers raise.
        raise ValueError(
            f"{os.fspath(path)!r} holds no model that can be loaded: {_without_config(error)}"
        ) from error


# A class that Keras does not know, and the module of it, also where a model around it quotes both.
_MISSING = re.compile(
    r"Could not locate \w+ '(.+?)'.*?Full object config: \{'module': '([\w.]+)'", re.S
)


def _without_config(error):
    """What Keras says, without the pages of configuration; a class that is missing is named."""
    missing = _MISSING.search(str(error))
    if missing:
        return (
            f"{missing[1]!r} is not known. The module {missing[2]!r} that defines it must be "
            "imported before, and register it with "
            "`@keras.saving.register_keras_serializable()`; on the command line: "
            f"--import {missing[2]}"
        )
    return re.split(r"\s+(?:Full object config: |config=)\{", str(error))[0]


def load_arrays(path: str | os.PathLike) -> dict[str, Any]:
    """The arrays in an `.npz` file, by name.

    Raises:
        ValueError: If there is no such file, or it holds something else.
    """
    if not os.path.isfile(path):
        raise ValueError(f"There is no file {os.fspath(path)!r}.")
    import numpy as np

    try:
        with np.load(path) as held:
            arrays = {name: held[name] for name in held.files}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise ValueError("it is an archive of other files")
        return arrays
    except Exception as error:  # Damaged archives raise many kinds; no archive is an array.
        raise ValueError(
            f"{os.fspath(path)!r} must be an .npz file of arrays, as `numpy.savez` writes it, and "
            f"is not: {error}"
        ) from error
