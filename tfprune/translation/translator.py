"""A model and its vocabulary: text in, text out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import keras
from keras import ops

from tfprune.arguments import integer, path_given
from tfprune.files import atomic_write
from tfprune.translation.decoding import StepDecoder
from tfprune.translation.encoding import as_list, encode_sources, padded
from tfprune.translation.loading import write_settings
from tfprune.translation.searching import beam_search, greedy
from tfprune.translation.shortlist import Shortlist
from tfprune.translation.vocabulary import Vocabulary, vocabulary_path


class Translator:
    """Translates sentences with a student, pruned or not.

    Args:
        model: A student or what `tfprune.rebuild` made of one.
        vocabulary: Its vocabulary.
        max_length: The longest translation and the longest source, in tokens, the end included;
            at least 2.
        shortlist: A `Shortlist`: words are chosen from the candidates of each sentence, and only
            their logits are computed. The larger the vocabulary, the more time it saves. Each
            sentence of a batch has its own rows of the output layer in memory. `None` for all
            pieces.

    Raises:
        ValueError: If `vocabulary` or `shortlist` is of another size than the model's output, the
            model cannot be decoded word by word, or there is a shortlist and the logits are made by
            something else than a `Dense` layer or an embedding in reverse.

    Example:

    >>> from tfprune.translation import Vocabulary, student
    >>> vocabulary = Vocabulary.train(["one two three"] * 10, size=270)
    >>> untrained = student(len(vocabulary), 1, 1, model_dim=16, feed_forward_dim=24)
    >>> len(Translator(untrained, vocabulary, max_length=8).translate(["one two", "three"]))
    2
    """

    def __init__(
        self,
        model: keras.Model,
        vocabulary: Vocabulary,
        max_length: int = 64,
        shortlist: Shortlist | None = None,
    ):
        if model.output_shape[-1] != len(vocabulary):
            raise ValueError(
                "`vocabulary` must be the one the model was trained with. Received: a vocabulary "
                f"of {len(vocabulary)} units for a model with {model.output_shape[-1]} outputs."
            )
        if shortlist is not None and not isinstance(shortlist, Shortlist):
            raise ValueError(
                f"`shortlist` must be a Shortlist, or None. Received: shortlist={shortlist!r}"
            )
        if shortlist is not None and shortlist.vocabulary_size != len(vocabulary):
            raise ValueError(
                "`shortlist` must be made with the vocabulary of the model. Received: a shortlist "
                f"of {shortlist.vocabulary_size} units for a vocabulary of {len(vocabulary)}."
            )
        self.model = model
        self.vocabulary = vocabulary
        self.max_length = integer("max_length", max_length, least=2)  # A word and the end.
        self.shortlist = shortlist
        self.decoder = StepDecoder(model, max_length, shortlist=shortlist)
        self._compiled: dict[int, object] = {}

    def translate(
        self, sentences: Sequence[str] | str, beam: int = 1, batch_size: int = 64
    ) -> list[str]:
        """Translates sentences.

        Args:
            sentences: Sentences in the source language; an empty one gives an empty translation,
                one of more than `max_length` tokens is cut, with a warning.
            beam: Beginnings kept by beam search; 1 is greedy search.
            batch_size: Sentences translated at once.

        Returns:
            One translation for each sentence.

        Raises:
            ValueError: If `sentences` holds anything but text, or a number is not positive.
        """
        sentences = as_list(sentences)
        beam, batch_size = integer("beam", beam), integer("batch_size", batch_size)
        encoded = encode_sources(sentences, self.vocabulary, self.max_length)
        return [self.vocabulary.decode(ids) for ids in self.search(encoded, beam, batch_size)]

    def search(
        self, encoded: Sequence[Sequence[int]], beam: int = 1, batch_size: int = 64
    ) -> list[list[int]]:
        """Translates ids to ids.

        Args:
            encoded: Ids of each source with the end id, at most `max_length`; none for an empty
                one.
            beam: As in `translate`.
            batch_size: As in `translate`.

        Returns:
            Ids of each translation with the end id, or `max_length` of them where it is not over.
        """
        result: list[list[int]] = [[] for _ in encoded]
        order = sorted((i for i, ids in enumerate(encoded) if ids), key=lambda i: len(encoded[i]))
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            source = padded([encoded[i] for i in chosen], rows=min(batch_size, len(order)))
            words = ops.convert_to_numpy(self._search(beam)(source))
            for i, ids in zip(chosen, words, strict=False):
                ends = ids == self.vocabulary.end_id
                result[i] = ids[: ends.argmax() + 1 if ends.any() else None].tolist()
        return result

    def _search(self, beam: int):
        if beam not in self._compiled:
            if beam == 1:
                self._compiled[beam] = compiled(lambda source: greedy(self.decoder, source))
            else:
                self._compiled[beam] = compiled(
                    lambda source: beam_search(self.decoder, source, beam)[0]
                )
        return self._compiled[beam]

    def save(self, path: str | os.PathLike) -> None:
        """Writes the Keras model, `path` ending in `.keras`, and the vocabulary beside it.

        `max_length` and the shortlist are kept in the file of the model.
        """
        path = Path(path_given("path", path))
        if path.suffix != ".keras":
            raise ValueError(f"`path` must end in '.keras'. Received: path={str(path)!r}")
        with atomic_write(path) as temporary:
            self.model.save(temporary)
            write_settings(temporary, self.max_length, self.shortlist)
            self.vocabulary.save(vocabulary_path(path))


def compiled(function):
    """Compiles a function of one int32 matrix for the present backend."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, input_signature=[tf.TensorSpec((None, None), tf.int32)])
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    return function
