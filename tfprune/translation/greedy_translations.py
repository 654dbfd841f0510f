"""What a translator makes of sentences, as batches to look at it with."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from tfprune.arguments import integer
from tfprune.translation.encoding import as_list, encode_sources
from tfprune.translation.sentence_pairs import IdBatches
from tfprune.translation.translator import Translator
from tfprune.translation.vocabulary import Vocabulary


class GreedyTranslations:
    """A function of no argument: sentences with their greedy translations by a model as it is now.

    With them as `data` of `tfprune.callbacks.HeadLottery`, heads are judged while the model
    translates, each word after the words that it has chosen itself, as in the paper. Pairs of a
    development set judge them while the model reads the reference.

    Each call translates again, so that a fit sees the model as it is in that step. Ids are kept as
    the model has chosen them, without a way through text, which may split words otherwise.

    Args:
        model: A student, or what `tfprune.rebuild` made of one.
        vocabulary: Its vocabulary.
        sources: Sentences in the source language, held out of training; empty ones are left out,
            those of more than `max_length` tokens are cut, with a warning.
        max_length: The longest translation and the longest source, in tokens, the end included;
            at least 2.
        batch_size: Sentences translated at once.

    Returns:
        When called, a dataset of `({"source": (B, S), "target": (B, T)}, labels (B, T), weights
        (B, T))`, as `batches` gives it, in the same order each time; labels are the words of the
        translations, the target is what the decoder read when it chose them.

    Raises:
        ValueError: If `sources` holds no sentence or anything but text, or as `Translator`.

    Source: Behnke & Heafield, "Losing Heads in the Lottery", 2020, section 4.2: confidence is
    averaged "over all times the head appears while translating a development corpus".

    Example:

    >>> from tfprune.criteria import attention_confidence
    >>> from tfprune.translation import GreedyTranslations, Vocabulary, student
    >>> vocabulary = Vocabulary.train(["one two three"] * 10, size=270)
    >>> model = student(len(vocabulary), 1, 1, model_dim=16, feed_forward_dim=24, num_heads=4)
    >>> translations = GreedyTranslations(model, vocabulary, ["one two", "three"], max_length=8)
    >>> attention_confidence(model, translations())["decoder_0_cross_attention"].shape
    (4,)
    """

    def __init__(
        self,
        model: keras.Model,
        vocabulary: Vocabulary,
        sources: Sequence[str],
        max_length: int = 64,
        batch_size: int = 64,
    ):
        self.model = model
        self.vocabulary = vocabulary
        self.max_length = integer("max_length", max_length, least=2)
        self.batch_size = integer("batch_size", batch_size)
        encoded = encode_sources(as_list(sources), vocabulary, self.max_length)
        self._encoded = [ids for ids in encoded if ids]
        if not self._encoded:
            raise ValueError(
                "`sources` must hold at least one sentence that is not empty. Received: "
                f"{len(encoded)} sentences"
            )

    def __call__(self) -> IdBatches:
        """Translates with the weights that the model has now."""
        # What is compiled may hold weights, and layers as they were called at that time.
        translator = Translator(self.model, self.vocabulary, self.max_length)
        found = translator.search(self._encoded, batch_size=self.batch_size)
        start = self.vocabulary.start_id
        examples = [
            (source, [start, *words[:-1]], words)
            for source, words in zip(self._encoded, found, strict=True)
        ]
        return IdBatches(examples, shuffle=False)
