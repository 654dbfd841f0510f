import gzip
import struct

import numpy as np
import pytest

from tfprune.datasets import fashion_mnist

COUNTS = {"train": 5, "t10k": 3}


@pytest.fixture
def folder(tmp_path):
    draw = np.random.default_rng(0)
    inner = tmp_path / "usr" / "share"
    inner.mkdir(parents=True)
    for prefix, count in COUNTS.items():
        for name, array in (
            ("images-idx3", draw.integers(0, 256, (count, 28, 28))),
            ("labels-idx1", np.arange(count)),
        ):
            head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            content = gzip.compress(head + array.astype(np.uint8).tobytes())
            (inner / f"{prefix}-{name}-ubyte.gz").write_bytes(content)
    return tmp_path


def test_files_are_read_as_they_were_written(folder):
    pictures = fashion_mnist(folder)
    images, labels = pictures.train
    assert images.shape == (5, 28, 28) and images.dtype == np.uint8
    expected = np.random.default_rng(0).integers(0, 256, (5, 28, 28))
    np.testing.assert_array_equal(images, expected)
    np.testing.assert_array_equal(labels, range(5))
    assert pictures.test[0].shape == (3, 28, 28) and len(pictures.classes) == 10
    assert "5 training, 3 test pictures" in repr(pictures)


def test_what_is_cached_is_read_and_damage_is_noticed(folder, tmp_path, monkeypatch):
    fetched = []

    def fetch(packages, temporary):
        fetched.extend(packages)
        return folder

    # Not by its dotted name: `tfprune.datasets.fashion_mnist` is the function.
    monkeypatch.setitem(fashion_mnist.__globals__, "fetch_packages", fetch)
    cache = tmp_path / "cache"
    first = fashion_mnist(cache=cache)
    second = fashion_mnist(cache=cache)
    assert fetched == ["dataset-fashion-mnist"]
    np.testing.assert_array_equal(first.train[0], second.train[0])
    (kept,) = cache.iterdir()
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 1
    kept.write_bytes(content)
    with pytest.warns(UserWarning, match="damaged.*made again"):
        third = fashion_mnist(cache=cache)
    np.testing.assert_array_equal(first.train[0], third.train[0])


def test_a_folder_without_the_files(tmp_path):
    with pytest.raises(ValueError, match=r"`folder` must hold train-images-idx3-ubyte\.gz"):
        fashion_mnist(tmp_path)
