"""A SentencePiece vocabulary shared by source and target."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from unicodedata import category

import numpy as np

from tfprune.arguments import integer, path_given
from tfprune.extras import require
from tfprune.files import atomic_write

# Types of pieces in a SentencePiece model; other types are special pieces.
_ORDINARY, _BYTE = 1, 6
# SentencePiece starts threads for a list, which takes as long as twenty sentences.
_WORTH_THREADS = 64


class Vocabulary:
    """Subword units and their ids: 0 padding, 1 start, 2 end, 3 unknown.

    Args:
        model_bytes: A serialized SentencePiece model.

    Example:

    >>> vocabulary = Vocabulary.train(["one two three"] * 10, size=270)
    >>> vocabulary.decode(vocabulary.encode("two"))
    'two'
    """

    pad_id, start_id, end_id, unknown_id = 0, 1, 2, 3

    def __init__(self, model_bytes: bytes):
        sentencepiece = require("sentencepiece", extra="translation")
        self.model_bytes = model_bytes
        if not isinstance(model_bytes, bytes) or not model_bytes:
            raise ValueError(
                "`model_bytes` must be a serialized SentencePiece model. "
                f"Received: {'nothing' if model_bytes == b'' else type(model_bytes).__name__}"
            )
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model_bytes)

    @classmethod
    def train(cls, sentences: Iterable[str], size: int = 6000) -> Vocabulary:
        """Trains a vocabulary.

        Args:
            sentences: Text of both languages.
            size: Number of units. 256 of them are single bytes, so that any text has ids.

        Returns:
            The vocabulary.

        Raises:
            ValueError: If the text is too small for the size.
        """
        import io

        integer("size", size)
        sentencepiece = require("sentencepiece", extra="translation")
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(_texts("sentences", sentences)),
                model_writer=model,
                vocab_size=size,
                model_type="unigram",
                byte_fallback=True,
                character_coverage=0.9999,
                pad_id=cls.pad_id,
                bos_id=cls.start_id,
                eos_id=cls.end_id,
                unk_id=cls.unknown_id,
                minloglevel=2,
            )
        except (RuntimeError, OSError) as error:
            raise ValueError(
                f"`size` must fit the text: it can be no smaller than its characters plus 260, and "
                f"no larger than the units found in it. Received: size={size}. SentencePiece says: "
                f"{error}"
            ) from error
        return cls(model.getvalue())

    @classmethod
    def load(cls, path: str | os.PathLike) -> Vocabulary:
        """Reads a SentencePiece model file."""
        path = Path(path_given("path", path))
        if not path.is_file():
            raise ValueError(
                f"`path` must be a SentencePiece model, as `Vocabulary.save` writes. There is no "
                f"file. Received: path={str(path)!r}"
            )
        try:
            return cls(path.read_bytes())
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"`path` must be a SentencePiece model. Received: path={str(path)!r}, which is "
                f"none: {error}"
            ) from error

    def save(self, path: str | os.PathLike) -> None:
        """Writes the SentencePiece model, whole or not at all."""
        with atomic_write(path) as temporary:
            temporary.write_bytes(self.model_bytes)

    def __len__(self) -> int:
        return self._processor.get_piece_size()

    @property
    def size(self) -> int:
        """The number of units."""
        return len(self)

    def always_kept(self) -> np.ndarray:
        """Which units any text needs: special ones, bytes and single characters, `(size,)`."""
        return np.array([p.type != _ORDINARY or len(p.piece) == 1 for p in self._proto().pieces])

    def without_letters(self) -> np.ndarray:
        """Which units hold only digits, punctuation or symbols, or are single bytes, `(size,)`.

        A translation often has them as the source has them.
        """
        return np.array([p.type == _BYTE or _is_without_letters(p) for p in self._proto().pieces])

    def with_tokens(self, kept: np.ndarray) -> Vocabulary:
        """A vocabulary with some of the units, in the same order.

        Args:
            kept: Boolean array `(size,)`.
        """
        proto = self._proto()
        pieces = [piece for piece, stays in zip(proto.pieces, kept, strict=True) if stays]
        del proto.pieces[:]
        proto.pieces.extend(pieces)
        proto.trainer_spec.vocab_size = len(pieces)
        return Vocabulary(proto.SerializeToString())

    def _proto(self):
        formats = require("sentencepiece.sentencepiece_model_pb2", extra="translation")
        proto = formats.ModelProto()
        proto.ParseFromString(self.model_bytes)
        return proto

    def encode(self, text: str) -> list[int]:
        """Ids of a sentence, without start and end."""
        return self._processor.encode(_texts("text", [text])[0])

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many sentences."""
        found = _texts("texts", texts)
        if len(found) < _WORTH_THREADS:
            return [self._processor.encode(text) for text in found]
        return self._processor.encode(found)

    def decode(self, ids: Sequence[int]) -> str:
        """The sentence that ids spell; padding, start and end are left out."""
        special = (self.pad_id, self.start_id, self.end_id)
        # Numbers of Python: those of an array take most of the time, one by one.
        numbers = list(map(int, ids.tolist() if hasattr(ids, "tolist") else ids))
        wrong = (
            [i for i in (min(numbers), max(numbers)) if not 0 <= i < len(self)] if numbers else []
        )
        if wrong:
            raise ValueError(
                f"`ids` must be from 0 to {len(self) - 1}, the vocabulary's. Received: {wrong[0]}"
            )
        return self._processor.decode([i for i in numbers if i not in special])


def _texts(name, given) -> list[str]:
    """What must be text, as a list."""
    found = [given] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)
    wrong = next((text for text in found if not isinstance(text, str)), "")
    if not isinstance(wrong, str):
        raise ValueError(f"`{name}` must hold text. Received: {wrong!r}")
    return found


def _is_without_letters(piece) -> bool:
    # SentencePiece writes this sign for a space.
    text = piece.piece.replace("\u2581", "")
    # Categories of Unicode: numbers, punctuation, symbols.
    return piece.type == _ORDINARY and bool(text) and all(category(c)[0] in "NPS" for c in text)


def vocabulary_path(path: str | os.PathLike) -> Path:
    """Where the vocabulary of a model file lies: beside it, as `name.vocabulary`."""
    return Path(path).with_suffix(".vocabulary")
