"""What a tokenizer must be able to do so that its vocabulary can be trimmed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import numpy as np

_PORTION = 1000  # Texts that are encoded in one call.


@runtime_checkable
class TrimmableTokenizer(Protocol):
    """A tokenizer whose vocabulary can be trimmed; any class with these four members is one.

    `tfprune.translation.Vocabulary` is an example. WordPiece tokenizers of KerasHub are adapted.
    """

    @property
    def size(self) -> int:
        """The number of ids."""

    def encode_all(self, texts: Sequence[str]) -> Sequence[Sequence[int]]:
        """The ids of each text."""

    def always_kept(self) -> np.ndarray:
        """Which tokens are needed for every text, a boolean array `(size,)`.

        These are the special tokens, and the tokens from which any word can be composed.
        """

    def with_tokens(self, kept: np.ndarray) -> Any:
        """A tokenizer with some of the tokens, in the same order.

        Args:
            kept: Boolean array `(size,)`.
        """


class WordPiece:
    """A WordPiece tokenizer of KerasHub as a `TrimmableTokenizer`.

    Args:
        tokenizer: Such as `keras_hub.tokenizers.BertTokenizer`.
    """

    # What a tokenizer has that splits words into pieces after a marked first one.
    _MEMBERS = (
        "get_config",
        "get_vocabulary",
        "oov_token",
        "special_tokens",
        "suffix_indicator",
        "vocabulary_size",
    )

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer

    @classmethod
    def can_adapt(cls, tokenizer: Any) -> bool:
        """Whether a tokenizer has the members of KerasHub's WordPiece tokenizers."""
        return all(hasattr(tokenizer, member) for member in cls._MEMBERS)

    @property
    def size(self) -> int:
        """The number of ids."""
        return self.tokenizer.vocabulary_size()

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text."""
        return token_lists(self.tokenizer, texts)

    def always_kept(self) -> np.ndarray:
        """Special tokens, and single characters at the beginning of a word and after it."""
        special = {*self.tokenizer.special_tokens, self.tokenizer.oov_token}
        prefix = self.tokenizer.suffix_indicator
        return np.array(
            [
                token in special or len(token.removeprefix(prefix)) == 1
                for token in self.tokenizer.get_vocabulary()
            ]
        )

    def with_tokens(self, kept: np.ndarray) -> Any:
        """A tokenizer of the adapted class."""
        vocabulary = self.tokenizer.get_vocabulary()
        tokens = [token for token, stays in zip(vocabulary, kept, strict=True) if stays]
        config = {**self.tokenizer.get_config(), "vocabulary": tokens}
        return type(self.tokenizer).from_config(config)


def trimmable(tokenizer: Any) -> TrimmableTokenizer:
    """A tokenizer as a `TrimmableTokenizer`: itself, or an adapter.

    Raises:
        ValueError: If its vocabulary cannot be trimmed.
    """
    if isinstance(tokenizer, TrimmableTokenizer):
        return tokenizer
    if WordPiece.can_adapt(tokenizer):
        return WordPiece(tokenizer)
    raise ValueError(
        "`tokenizer` must be a WordPiece tokenizer of KerasHub, such as BertTokenizer, or have the "
        "members of `tfprune.embeddings.TrimmableTokenizer`, as `tfprune.translation.Vocabulary` "
        f"has. Received: {type(tokenizer).__name__}"
    )


def used_by(tokenizer: TrimmableTokenizer, corpus: Iterable[str]) -> np.ndarray:
    """Which ids occur in a corpus.

    Args:
        tokenizer: The tokenizer.
        corpus: Texts.

    Returns:
        Boolean array `(size,)`.
    """
    used = np.zeros(tokenizer.size, bool)
    for texts in _portions(corpus):
        for ids in tokenizer.encode_all(texts):
            used[np.asarray(ids, "int64")] = True
    return used


def token_lists(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """The ids of each text, from a tokenizer of KerasHub, which gives a ragged tensor or lists."""
    rows = tokenizer(texts)
    return rows.to_list() if hasattr(rows, "to_list") else [list(row) for row in rows]


def _portions(corpus) -> Iterator[list[str]]:
    # A string is a series of strings too, its characters, but no corpus.
    if isinstance(corpus, (str, bytes, Mapping)) or not isinstance(corpus, Iterable):
        raise ValueError(
            "`corpus` must be texts, such as a list of strings. "
            f"Received: a {type(corpus).__name__}"
        )
    texts = map(_text, corpus)
    while portion := list(islice(texts, _PORTION)):
        yield portion


def _text(text: Any) -> str:
    if not isinstance(text, str):
        raise ValueError(f"`corpus` must hold strings. Received: {text!r} in it")
    return text
