"""Pictures of clothes, 28 by 28 pixels."""

from __future__ import annotations

import gzip
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfprune.datasets import cache as caching
from tfprune.datasets.debian import fetch_packages

_PACKAGE = "dataset-fashion-mnist"
_NAME = "fashion_mnist-v1"
_SPLITS = {"train": "train", "test": "t10k"}
_CLASSES = (
    "T-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)

Pictures = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class LabelledPictures:
    """Pictures with a class each, for training and testing.

    Args:
        classes: Names of the classes, in the order of their numbers.
        train: Pictures `(n, 28, 28)` from 0 to 255, `uint8`, and their classes `(n,)`.
        test: Likewise, for the final figures.
    """

    classes: tuple[str, ...]
    train: Pictures
    test: Pictures

    def __repr__(self) -> str:
        return (
            f"LabelledPictures({' | '.join(self.classes)}: {len(self.train[1]):,} training, "
            f"{len(self.test[1]):,} test pictures)"
        )


def fashion_mnist(
    folder: str | os.PathLike | None = None, cache: str | os.PathLike | None = None
) -> LabelledPictures:
    """Fashion-MNIST: 60,000 pictures of clothes for training and 10,000 for testing (MIT).

    The same as `keras.datasets.fashion_mnist`, for machines that reach Debian or Ubuntu packages
    only.

    Args:
        folder: A folder that holds the four files `*-ubyte.gz`. By default the Debian package
            `dataset-fashion-mnist` (31 MB) is fetched with `apt-get download` (no rights are
            needed) and unpacked to a temporary folder.
        cache: Where the pictures are kept. Default: `TFPRUNE_CACHE` or `~/.cache/tfprune`.

    Returns:
        `LabelledPictures` of ten classes.

    Raises:
        ValueError: If the folder does not hold the files.
        RuntimeError: If there is neither a folder nor a package manager to fetch from.

    Source: Xiao, Rasul & Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine
    Learning Algorithms", 2017.

    Example:

    >>> pictures = tfprune.datasets.fashion_mnist()  # doctest: +SKIP
    """
    if folder is not None:
        return LabelledPictures(_CLASSES, **_read(Path(folder)))
    path = caching.cache_folder(cache) / f"{_NAME}.npz"
    arrays = caching.read_arrays(path)
    if arrays is None:
        with tempfile.TemporaryDirectory() as temporary:
            splits = _read(fetch_packages([_PACKAGE], Path(temporary)))
        caching.write_arrays(path, (array for pair in splits.values() for array in pair))
    else:
        splits = dict(zip(_SPLITS, zip(arrays[::2], arrays[1::2], strict=True), strict=True))
    return LabelledPictures(_CLASSES, **splits)


def _read(root: Path) -> dict[str, Pictures]:
    return {
        name: (
            _idx(root, f"{prefix}-images-idx3-ubyte.gz"),
            _idx(root, f"{prefix}-labels-idx1-ubyte.gz"),
        )
        for name, prefix in _SPLITS.items()
    }


def _idx(root, name):
    """The bytes of a file in the IDX format: two zeros, type, axes, sizes, then the numbers."""
    found = sorted(root.rglob(name))
    if not found:
        raise ValueError(f"`folder` must hold {name}. Received: folder={str(root)!r}")
    content = gzip.decompress(found[0].read_bytes())
    axes = content[3]
    sizes = np.frombuffer(content, ">u4", axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(sizes)
