"""Prepared data kept on disk, with a checksum."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import warnings
import zlib
from pathlib import Path
from typing import Any

from tfprune.files import atomic_write


def cache_folder(cache: str | os.PathLike | None = None) -> Path:
    """The folder of the cache: the argument, `TFPRUNE_CACHE`, or `~/.cache/tfprune`."""
    return Path(cache or os.environ.get("TFPRUNE_CACHE") or Path.home() / ".cache" / "tfprune")


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
        warnings.warn(
            f"The cached data set {path} is damaged ({error}); it is made again.", stacklevel=3
        )
        return None


def write(path: Path, data: Any) -> None:
    """Stores JSON-able data, whole or not at all."""
    text = json.dumps(data, ensure_ascii=False)
    checksum = hashlib.sha256(text.encode()).hexdigest()
    with atomic_write(path) as temporary, gzip.open(temporary, "wt", encoding="utf-8") as file:
        file.write(f"{checksum}\n{text}")
