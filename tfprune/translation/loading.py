"""Translators from files; Keras and TensorFlow are imported only for the files that need them."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfprune.arguments import integer, path_given
from tfprune.extras import require
from tfprune.files import load_keras
from tfprune.litert import Runner
from tfprune.translation.encoding import as_list, encode_sources, padded
from tfprune.translation.translates import Translates
from tfprune.translation.vocabulary import Vocabulary, vocabulary_path

if TYPE_CHECKING:
    from tfprune.translation.shortlist import Shortlist

# What a file is given that does not say for how many tokens it was made.
_MAX_LENGTH = 64
_SETTINGS, _SHORTLIST = "translator.json", "shortlist.npz"


class LiteRTTranslator:
    """Translates with a `.tflite` file that `export_translator` wrote.

    Args:
        path: The file; its vocabulary lies beside it.
        threads: Threads of the interpreter.
        max_length: The longest source, in tokens; by default as it was when it was exported.
        vocabulary: The vocabulary, if it is not the one beside the file.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        threads: int = 1,
        max_length: int | None = None,
        vocabulary: Vocabulary | None = None,
    ):
        integer("max_length", max_length, optional=True)
        path = Path(path_given("path", path))
        self.vocabulary = vocabulary or Vocabulary.load(vocabulary_path(path))
        self._runner = Runner(path, threads=threads, signature="translate")
        # A translation is an array with a place for each token, so the file knows how many.
        shapes = list(self._runner.output_shapes.values())
        if len(shapes) != 1 or len(shapes[0]) != 2 or len(self._runner.names) != 1:
            raise ValueError(
                "`path` must be a LiteRT file that `export_translator` wrote, from an array of ids "
                f"to one. Received: path={str(path)!r}, from {', '.join(self._runner.names)} to "
                f"outputs of shapes {shapes}"
            )
        length = shapes[0][-1]
        self.max_length = max_length or (length if length > 0 else _MAX_LENGTH)

    def words(self, ids: Sequence[int]) -> np.ndarray:
        """The translation of one sentence as ids, `(1, tokens)`."""
        return self._runner.run([padded([ids])])[0]

    def translate(self, sentences: Sequence[str] | str, **_: Any) -> list[str]:
        """One translation for each sentence, one at a time."""
        encoded = encode_sources(as_list(sentences), self.vocabulary, self.max_length)
        found = [""] * len(encoded)
        # By length: LiteRT plans its memory anew whenever the length changes.
        for i in sorted(range(len(encoded)), key=lambda i: len(encoded[i])):
            if encoded[i]:
                found[i] = self.vocabulary.decode(self.words(encoded[i])[0])
        return found


class SavedTranslator:
    """Translates with a SavedModel that `export_translator` wrote.

    Args:
        path: The folder.

    Attributes:
        max_length: The longest source and translation, in tokens; `None` if it is not known.
    """

    def __init__(self, path: str | os.PathLike):
        tf = require("tensorflow", extra="export")
        require("tensorflow_text", extra="translation")  # It registers the tokenizer's operations.
        self._model = tf.saved_model.load(str(path_given("path", path)))
        length = getattr(self._model, "max_length", None)
        self.max_length = None if length is None else int(length)

    def translate(self, sentences: Sequence[str] | str, **_: Any) -> list[str]:
        """One translation for each sentence."""
        import tensorflow as tf

        sentences = as_list(sentences)
        if not sentences:
            return []
        result = self._model.translate(tf.constant([s.strip() for s in sentences]))
        return [
            t.decode() if s.strip() else ""
            for s, t in zip(sentences, result["translations"].numpy(), strict=True)
        ]


def write_settings(
    path: str | os.PathLike, max_length: int, shortlist: Shortlist | None = None
) -> None:
    """Keeps the longest sentence and the shortlist of a translator in its `.keras` file.

    Such a file is an archive, in which Keras reads its own members alone. What lies inside cannot
    be lost when the file is copied.
    """
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(_SETTINGS, json.dumps({"max_length": max_length}))
        if shortlist is not None:
            content = io.BytesIO()
            np.savez(content, **shortlist.arrays())
            archive.writestr(_SHORTLIST, content.getvalue())


def _saved_length(path) -> int:
    """The longest sentence that a `.keras` file was made for."""
    try:
        with zipfile.ZipFile(path) as archive:
            return integer("max_length", json.loads(archive.read(_SETTINGS))["max_length"])
    except KeyError:  # An older file, or one that `model.save` wrote.
        return _MAX_LENGTH


def _saved_shortlist(path) -> Shortlist | None:
    """The shortlist in a `.keras` file."""
    from tfprune.translation.shortlist import Shortlist

    with zipfile.ZipFile(path) as archive:
        if _SHORTLIST not in archive.namelist():
            return None
        with np.load(io.BytesIO(archive.read(_SHORTLIST))) as arrays:
            return Shortlist.from_arrays(dict(arrays))


def load_translator(path: str | os.PathLike, max_length: int | None = None) -> Translates:
    """Loads a translator that was saved or exported.

    Args:
        path: A `.keras` file (`Translator.save`), a `.tflite` file or a SavedModel folder
            (`export_translator`).
        max_length: The longest source, in tokens, and for a `.keras` file the longest translation,
            which exported files have built in. By default what the translator had when it was
            saved, 64 for files that do not say.

    Returns:
        An object with `translate(sentences)`.

    Raises:
        ValueError: If there is nothing of the kind at `path`, `max_length` is no positive integer,
            or not that of a SavedModel.
    """
    path = Path(path_given("path", path))
    integer("max_length", max_length, optional=True)
    if path.suffix == ".keras" and path.is_file():
        model = load_keras(path)
        from tfprune.translation.translator import Translator

        return Translator(
            model,
            Vocabulary.load(vocabulary_path(path)),
            max_length or _saved_length(path),
            _saved_shortlist(path),
        )
    if path.suffix == ".tflite" and path.is_file():
        return LiteRTTranslator(path, max_length=max_length)
    if (path / "saved_model.pb").is_file():
        saved = SavedTranslator(path)
        if max_length and saved.max_length not in (None, max_length):
            raise ValueError(
                f"`max_length` is {saved.max_length} in this SavedModel and cannot be changed. "
                f"Received: max_length={max_length}"
            )
        return saved
    raise ValueError(
        "`path` must be a .keras or .tflite file or a SavedModel folder. There is none. "
        f"Received: path={str(path)!r}"
    )
