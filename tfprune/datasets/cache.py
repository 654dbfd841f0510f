"""Prepared data kept on disk, with a checksum."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tfprune.files import atomic_write
from tfprune.user_warnings import warn


def cache_folder(cache: str | os.PathLike | None = None) -> Path:
    """The folder of the cache: the argument, `TFPRUNE_CACHE`, or `~/.cache/tfprune`."""
    return Path(cache or os.environ.get("TFPRUNE_CACHE") or Path.home() / ".cache" / "tfprune")


def kept(
    name: str, cache: str | os.PathLike | None, given: str | os.PathLike | None, make: Callable
) -> Any:
    """JSON-able data from the cache; what is not there is made and kept.

    Args:
        name: The name of the file, without a suffix.
        cache: As in `cache_folder`.
        given: The file or folder of the user's own that `make` reads, if any: what comes from it is
            neither taken from the cache nor kept there.
        make: A function that gives the data.
    """
    if given is not None:
        return make()
    path = cache_folder(cache) / f"{name}.json.gz"
    data = read(path)
    if data is None:
        data = make()
        write(path, data)
    return data


def read(path: Path) -> Any:
    """What was stored, or `None` if nothing was; a damaged file is reported and ignored."""
    if not path.exists():
        return None
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            checksum, _, text = file.read().partition("\n")
        if hashlib.sha256(text.encode()).hexdigest() != checksum:
            raise ValueError("its checksum does not match")
        return json.loads(text)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        _warn_of_damage(path, error)
        return None


def write(path: Path, data: Any) -> None:
    """Stores JSON-able data, whole or not at all."""
    text = json.dumps(data, ensure_ascii=False)
    checksum = hashlib.sha256(text.encode()).hexdigest()
    with atomic_write(path) as temporary, gzip.open(temporary, "wt", encoding="utf-8") as file:
        file.write(f"{checksum}\n{text}")


def read_arrays(path: Path) -> list[np.ndarray] | None:
    """Likewise what `write_arrays` stored; the archive has a checksum for each array."""
    if not path.exists():
        return None
    try:
        with np.load(path) as arrays:
            return [arrays[f"arr_{i}"] for i in range(len(arrays.files))]
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        _warn_of_damage(path, error)
        return None


def write_arrays(path: Path, arrays: Iterable[np.ndarray]) -> None:
    """Stores arrays, whole or not at all."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, *arrays)


def _warn_of_damage(path: Path, error: Exception) -> None:
    warn(f"The cached data set {path} is damaged ({error}); it is made again.")
