"""The target pieces that the output layer looks at, for each source sentence."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from tfprune.arguments import integer, path_given
from tfprune.datasets.parallel import Pair
from tfprune.files import atomic_write, load_arrays
from tfprune.translation.ibm_model_1 import ibm_model_1
from tfprune.translation.vocabulary import Vocabulary


class Coverage(NamedTuple):
    """How much of a text a shortlist lets a translator write.

    Args:
        pieces: Share of the target pieces that are among the candidates of their sentence.
        sentences: Share of the sentences of which all target pieces are.
    """

    pieces: float
    sentences: float


class Shortlist:
    """Target pieces from which a translator chooses, for each source sentence.

    The candidates of a sentence are the most frequent target pieces, and for each of its source
    pieces the target pieces that translate it best. They depend on the sentence alone, not on the
    other sentences of a batch. The output layer of a large vocabulary then takes a small part of
    its time.

    Make one by `Shortlist.train` and give it to `Translator`.

    Args:
        lists: For each source piece target pieces, ids `(vocabulary, best)`. The row of the padding
            id may hold only pieces of `frequent`. A piece may occur more than once.
        frequent: The target pieces that are always candidates, ids `(frequent,)`, the end id among
            them.
        covered: How much of the training text is covered, if known.

    Attributes:
        lists: int32 array `(vocabulary, best)`.
        frequent: int32 array `(frequent,)`.
        covered: `Coverage` or `None`.

    Raises:
        ValueError: If an array has another shape, ids out of range, or lacks the end id.

    Source: Jean et al., "On Using Very Large Target Vocabulary for Neural Machine Translation", ACL
    2015, on decoding: the K most frequent words and K' translations of each source word; what
    Marian calls `first` and `best` of a lexical shortlist.

    Example:

    >>> from tfprune.translation import Shortlist, Translator, Vocabulary, student
    >>> pairs = [("one two", "eins zwei"), ("two", "zwei"), ("one", "eins")] * 10
    >>> vocabulary = Vocabulary.train([text for pair in pairs for text in pair], size=271)
    >>> shortlist = Shortlist.train(pairs, vocabulary, best=2, frequent=4)
    >>> shortlist.coverage(pairs, vocabulary).pieces
    1.0
    >>> model = student(len(vocabulary), 1, 1, model_dim=16, feed_forward_dim=24)
    >>> translator = Translator(model, vocabulary, max_length=8, shortlist=shortlist)
    """

    def __init__(self, lists: Any, frequent: Any, covered: Coverage | None = None):
        self.lists, self.frequent = np.asarray(lists), np.asarray(frequent)
        for name, array, rank in (("lists", self.lists, 2), ("frequent", self.frequent, 1)):
            if array.ndim != rank or not array.size or array.dtype.kind not in "iu":
                raise ValueError(
                    f"`{name}` must be an array of ids with {rank} "
                    f"{'axes' if rank > 1 else 'axis'}, not empty. Received: an array of shape "
                    f"{array.shape} and type {array.dtype}"
                )
            if array.min() < 0 or array.max() >= len(self.lists):
                raise ValueError(
                    f"`{name}` must hold ids from 0 to {len(self.lists) - 1}, since `lists` has "
                    f"{len(self.lists)} rows. Received: ids from {array.min()} to {array.max()}"
                )
        if Vocabulary.end_id not in self.frequent:
            raise ValueError(
                f"`frequent` must hold the end id, {Vocabulary.end_id}: a translation could not "
                f"end. Received: frequent={self.frequent}"
            )
        of_padding = self.lists[Vocabulary.pad_id]
        if not np.isin(of_padding, self.frequent).all():
            raise ValueError(
                "`lists` must hold only pieces of `frequent` in the row of the padding id, so that "
                f"padding changes nothing. Received: {of_padding}"
            )
        self.lists, self.frequent = self.lists.astype("int32"), self.frequent.astype("int32")
        self.covered = covered

    @classmethod
    def train(
        cls,
        pairs: Sequence[Pair],
        vocabulary: Vocabulary,
        best: int = 16,
        frequent: int = 150,
        iterations: int = 5,
        max_length: int = 64,
    ) -> Shortlist:
        """Learns from sentence pairs which pieces translate which.

        Translation probabilities are those of IBM model 1. Pieces that are always candidates are
        left out of the lists, which then hold others. A source piece of digits, punctuation or
        symbols, and one that the text has nowhere, has itself as its first candidate.

        Args:
            pairs: Sentence pairs, best those with which the translator was trained.
            vocabulary: The vocabulary of the translator.
            best: Target pieces for each source piece.
            frequent: The most frequent target pieces, which are always candidates, the end not
                counted; fewer if the text has fewer.
            iterations: Iterations of IBM model 1.
            max_length: Longer pairs are left out, in tokens.

        Returns:
            The shortlist.

        Raises:
            ValueError: If no pair is left or a number is out of range.

        Source: Brown et al., "The Mathematics of Statistical Machine Translation: Parameter
        Estimation", 1993, section 4.1.
        """
        best, frequent = integer("best", best), integer("frequent", frequent, least=0)
        iterations = integer("iterations", iterations)
        max_length = integer("max_length", max_length, least=2)
        encoded = _encoded(pairs, vocabulary)
        short = [(s, t) for s, t in encoded if max(len(s), len(t)) < max_length]
        if not short:
            raise ValueError(
                f"`pairs` must hold at least one pair of 1 to {max_length - 1} tokens. "
                f"Received: {len(pairs)} pairs, none of which fits."
            )
        counts = np.bincount(np.concatenate([t for _, t in short]), minlength=len(vocabulary))
        most = np.argsort(-counts, kind="stable")[:frequent]
        always = np.concatenate([[vocabulary.end_id], most[counts[most] > 0]])
        lists = _lists(ibm_model_1(short, iterations), vocabulary, always, best)
        made = cls(lists, always)
        made.covered = made.coverage(pairs, vocabulary)
        return made

    @property
    def vocabulary_size(self) -> int:
        """The number of pieces of the vocabulary."""
        return len(self.lists)

    def candidates(self, source: Any) -> Any:
        """The pieces from which the words of each translation are chosen.

        Args:
            source: Ids `(batch, length)`, 0 for padding.

        Returns:
            Ids `(batch, frequent + length · best)`, int32, in no order and with repetitions. As a
            set they depend neither on padding nor on the other sentences.
        """
        batch = ops.shape(source)[0]
        called_for = ops.take(ops.convert_to_tensor(self.lists), source, axis=0)
        always = ops.broadcast_to(
            ops.convert_to_tensor(self.frequent)[None], (batch, len(self.frequent))
        )
        return ops.concatenate([always, ops.reshape(called_for, (batch, -1))], axis=1)

    def coverage(self, pairs: Sequence[Pair], vocabulary: Vocabulary) -> Coverage:
        """How much of a text a translator with this shortlist could write.

        Args:
            pairs: Sentence pairs; those with an empty side are left out.
            vocabulary: The vocabulary of the shortlist.

        Returns:
            Shares from 0 to 1 of target pieces and of whole sentences.

        Raises:
            ValueError: If no pair is left, or the vocabulary is of another size.
        """
        if len(vocabulary) != self.vocabulary_size:
            raise ValueError(
                f"`vocabulary` must be the one of the shortlist, of {self.vocabulary_size} units. "
                f"Received: a vocabulary of {len(vocabulary)} units."
            )
        encoded = _encoded(pairs, vocabulary)
        if not encoded:
            raise ValueError(
                "`pairs` must hold at least one pair without an empty side. "
                f"Received: {len(pairs)} pairs"
            )
        always = np.isin(np.arange(self.vocabulary_size), self.frequent)
        # The number of the last sentence for which a piece is a candidate.
        last = np.full(self.vocabulary_size, -1)
        found = total = whole = 0
        for number, (source, target) in enumerate(encoded):
            last[self.lists[source]] = number
            there = int(np.sum(always[target] | (last[target] == number)))
            found, total = found + there, total + len(target)
            whole += there == len(target)
        return Coverage(found / total, whole / len(encoded))

    def save(self, path: str | os.PathLike) -> None:
        """Writes an `.npz` file, whole or not at all."""
        path = Path(path_given("path", path))
        if path.suffix != ".npz":
            raise ValueError(f"`path` must end in '.npz'. Received: path={str(path)!r}")
        with atomic_write(path) as temporary:
            np.savez_compressed(temporary, **self.arrays())

    @classmethod
    def load(cls, path: str | os.PathLike) -> Shortlist:
        """Reads a file that `save` wrote.

        Raises:
            ValueError: If there is no such file, or it holds something else.
        """
        return cls.from_arrays(load_arrays(path_given("path", path)))

    def arrays(self) -> dict[str, Any]:
        """All that the shortlist is made of, as arrays by name."""
        covered = {} if self.covered is None else {"covered": np.asarray(self.covered)}
        return {"lists": self.lists, "frequent": self.frequent, **covered}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Shortlist:
        """The shortlist of which `arrays` returned these.

        Raises:
            ValueError: If they are others.
        """
        if not {"lists", "frequent"} <= set(arrays):
            raise ValueError(
                "A shortlist has the arrays 'lists' and 'frequent', as `Shortlist.save` writes "
                f"them. Received: {', '.join(sorted(arrays)) or 'none'}"
            )
        covered = arrays.get("covered")
        return cls(
            arrays["lists"],
            arrays["frequent"],
            None if covered is None else Coverage(*map(float, covered)),
        )

    def __repr__(self) -> str:
        rows, best = self.lists.shape
        text = (
            f"Shortlist of {rows:,} pieces: {len(self.frequent):,} are always candidates, "
            f"{best:,} more for each source piece"
        )
        if self.covered is not None:
            text += (
                f"; {self.covered.pieces:.1%} of the target pieces of the training text are "
                f"covered, all of {self.covered.sentences:.1%} of its sentences"
            )
        return text


def _encoded(pairs, vocabulary):
    """Ids of the pairs of which no side is empty."""
    sources = vocabulary.encode_all([s for s, _ in pairs])
    targets = vocabulary.encode_all([t for _, t in pairs])
    return [(s, t) for s, t in zip(sources, targets, strict=True) if s and t]


def _lists(table, vocabulary, always, best):
    """The likeliest translations of each piece that are not always there, `(vocabulary, best)`."""
    ids = np.arange(len(vocabulary))
    themselves = ids[vocabulary.without_letters() | ~np.isin(ids, table.source)]
    # Before all others: no probability is larger than 1.
    source = np.concatenate([themselves, table.source])
    target = np.concatenate([themselves, table.target])
    score = np.concatenate([np.full(len(themselves), 2.0), table.probability])
    wanted = ~np.isin(target, always) & (source > vocabulary.unknown_id)
    source, target, score = source[wanted], target[wanted], score[wanted]
    order = np.lexsort((target, -score, source))
    source, target = source[order], target[order]
    rank = np.arange(len(source)) - np.searchsorted(source, source)
    # What is always there fills the places that are left.
    lists = np.full((len(vocabulary), best), vocabulary.end_id, "int32")
    lists[source[rank < best], rank[rank < best]] = target[rank < best]
    return lists
