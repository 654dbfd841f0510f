"""Which tokens a corpus uses, and the same tokenizer with those alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from tfprune.batches import token_lists
from tfprune.translation.vocabulary import Vocabulary

_AT_ONCE = 1000  # Texts.


def used_by(tokenizer: Any, corpus: Iterable[str]) -> np.ndarray:
    """Which ids occur in a corpus, a boolean array `(vocabulary size,)`."""
    used = np.zeros(size_of(tokenizer), bool)
    for texts in _portions(corpus):
        for ids in _encoded(tokenizer, texts):
            used[np.asarray(ids, "int64")] = True
    return used


def size_of(tokenizer: Any) -> int:
    """The number of its ids.

    Raises:
        ValueError: If it is no tokenizer that can be trimmed.
    """
    if isinstance(tokenizer, Vocabulary):
        return len(tokenizer)
    if _is_word_piece(tokenizer):
        return tokenizer.vocabulary_size()
    raise ValueError(
        "`tokenizer` must be a `tfprune.translation.Vocabulary` or a WordPiece tokenizer of "
        f"KerasHub, such as BertTokenizer. Received: {type(tokenizer).__name__}"
    )


def always_kept(tokenizer: Any) -> np.ndarray:
    """What no text may be without: special tokens, and the pieces that any word can be spelled of.

    Returns:
        Boolean array `(vocabulary size,)`.
    """
    if isinstance(tokenizer, Vocabulary):
        pieces = _proto(tokenizer).pieces
        # 1 is an ordinary piece; all others are special, or single bytes.
        return np.array([p.type != 1 or len(p.piece) == 1 for p in pieces])
    special = {*tokenizer.special_tokens, tokenizer.oov_token}
    prefix = tokenizer.suffix_indicator
    return np.array(
        [
            token in special or len(token.removeprefix(prefix)) == 1
            for token in tokenizer.get_vocabulary()
        ]
    )


def with_tokens(tokenizer: Any, kept: np.ndarray) -> Any:
    """The tokenizer with some of its tokens alone, in the same order.

    Args:
        tokenizer: A tokenizer.
        kept: Boolean array `(vocabulary size,)`.

    Returns:
        A new tokenizer of the same class.
    """
    if isinstance(tokenizer, Vocabulary):
        proto = _proto(tokenizer)
        pieces = [piece for piece, stays in zip(proto.pieces, kept, strict=True) if stays]
        del proto.pieces[:]
        proto.pieces.extend(pieces)
        proto.trainer_spec.vocab_size = len(pieces)
        return Vocabulary(proto.SerializeToString())
    tokens = [t for t, stays in zip(tokenizer.get_vocabulary(), kept, strict=True) if stays]
    config = {**tokenizer.get_config(), "vocabulary": tokens}
    return type(tokenizer).from_config(config)


def _is_word_piece(tokenizer) -> bool:
    return any(c.__name__ == "WordPieceTokenizer" for c in type(tokenizer).__mro__)


def _encoded(tokenizer, texts) -> Iterator:
    if isinstance(tokenizer, Vocabulary):
        yield from tokenizer.encode_all(texts)
    else:
        yield from token_lists(tokenizer, texts)


def _portions(corpus) -> Iterator[list[str]]:
    texts = iter(corpus)
    while portion := list(islice(texts, _AT_ONCE)):
        yield portion


def _proto(vocabulary):
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(vocabulary.model_bytes)
    return proto
