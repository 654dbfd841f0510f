"""Translators from files; Keras and TensorFlow are imported only for the files that need them."""

from __future__ import annotations

import os
from pathlib import Path

from tfprune.extras import require
from tfprune.litert import Runner
from tfprune.translation.encoding import encode_sources, padded
from tfprune.translation.vocabulary import Vocabulary, vocabulary_path


class LiteRTTranslator:
    """Translates with a `.tflite` file that `export_translator` wrote.

    Args:
        path: The file; its vocabulary lies beside it.
        threads: Threads of the interpreter.
        max_length: The longest source, in tokens.
    """

    def __init__(self, path: str | os.PathLike, threads: int = 1, max_length: int = 64):
        self.vocabulary = Vocabulary.load(vocabulary_path(path))
        self.max_length = max_length
        self._runner = Runner(path, threads=threads, signature="translate")

    def translate(self, sentences, **_) -> list[str]:
        """One translation for each sentence, one at a time."""
        sentences = [sentences] if isinstance(sentences, str) else list(sentences)
        encoded = encode_sources(sentences, self.vocabulary, self.max_length)
        return [
            self.vocabulary.decode(self._runner.run([padded([ids])])[0][0]) if ids else ""
            for ids in encoded
        ]


class SavedTranslator:
    """Translates with a SavedModel that `export_translator` wrote.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | os.PathLike):
        import tensorflow as tf

        require("tensorflow_text", extra="translation")  # It registers the tokenizer's operations.
        self._model = tf.saved_model.load(str(path))

    def translate(self, sentences, **_) -> list[str]:
        """One translation for each sentence."""
        import tensorflow as tf

        sentences = [sentences] if isinstance(sentences, str) else list(sentences)
        if not sentences:
            return []
        result = self._model.translate(tf.constant([s.strip() for s in sentences]))
        return [
            t.decode() if s.strip() else ""
            for s, t in zip(sentences, result["translations"].numpy(), strict=True)
        ]


def load_translator(path: str | os.PathLike, max_length: int = 64):
    """Loads a translator that was saved or exported.

    Args:
        path: A `.keras` file (`Translator.save`), a `.tflite` file or a SavedModel folder
            (`export_translator`).
        max_length: The longest translation, for `.keras` files.

    Returns:
        An object with `translate(sentences)`.

    Raises:
        ValueError: If there is nothing of the kind at `path`.
    """
    path = Path(path)
    if path.suffix == ".keras" and path.is_file():
        import keras

        from tfprune.translation.translator import Translator

        return Translator(
            keras.saving.load_model(path, compile=False),
            Vocabulary.load(vocabulary_path(path)),
            max_length,
        )
    if path.suffix == ".tflite" and path.is_file():
        return LiteRTTranslator(path, max_length=max_length)
    if (path / "saved_model.pb").is_file():
        return SavedTranslator(path)
    raise ValueError(
        "`path` must be a .keras or .tflite file or a SavedModel folder. There is none. "
        f"Received: path={str(path)!r}"
    )
