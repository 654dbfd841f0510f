"""Greedy and beam search over decoding steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from tfprune.translation.argmax import id_of_largest
from tfprune.translation.decoding import StepDecoder
from tfprune.translation.vocabulary import Vocabulary

_START, _END, _PAD = Vocabulary.start_id, Vocabulary.end_id, Vocabulary.pad_id


def greedy(
    decoder: StepDecoder,
    source: Any,
    batch: int | None = None,
    choose: Callable[[Any, Any], Any] = id_of_largest,
) -> Any:
    """Takes the likeliest word at each position, the one of the lowest id if two are equal.

    Args:
        decoder: The decoding step.
        source: Ids `(batch, length)`.
        batch: The batch size, where it is known; exports to LiteRT need it.
        choose: Function of logits and ids, as `id_of_largest`. An export may know better
            operations.

    Returns:
        Ids `(batch, max_length)`, the end id included, then padding.
    """
    size = ops.shape(source)[0] if batch is None else batch
    memory = decoder.encode(source, batch)
    candidates = decoder.candidates(memory)

    def unfinished(position, word, done, *rest):
        # Of one sentence the last word says whether it is over.
        over = ops.squeeze(word == _END) if batch == 1 else ops.all(done)
        return ops.logical_and(position < decoder.max_length, ops.logical_not(over))

    def advance(position, word, done, words, *old):
        logits, states = decoder.step(word, position, memory, list(old))
        chosen = choose(logits, candidates)
        if batch != 1:
            chosen = ops.where(done, _PAD, chosen)
            done = ops.logical_or(done, chosen == _END)
        words = ops.slice_update(words, (0, position), ops.expand_dims(chosen, 1))
        return (position + 1, chosen, done, words, *states)

    first = (
        ops.cast(0, "int32"),
        ops.full((size,), _START, dtype="int32"),
        ops.zeros((size,), dtype="bool"),
        ops.zeros((size, decoder.max_length), dtype="int32"),
        *decoder.start(size),
    )
    return ops.while_loop(unfinished, advance, first)[3]


def beam_search(
    decoder: StepDecoder, source: Any, beam: int, batch: int | None = None
) -> tuple[Any, Any]:
    """Keeps the `beam` likeliest beginnings at each position.

    With a shortlist the probabilities are those among the candidates.

    Args:
        decoder: The decoding step.
        source: Ids `(batch, length)`.
        beam: Beginnings kept.
        batch: The batch size, where it is known; exports to LiteRT need it.

    Returns:
        Ids `(batch, max_length)` of the best translation and its log-probability `(batch,)`.
    """
    memory = decoder.encode(source, batch)
    batch = ops.shape(source)[0] if batch is None else batch
    candidates = decoder.candidates(memory)
    memory = decoder.repeat(memory, beam)
    if candidates is not None:
        candidates = ops.reshape(candidates, (batch, -1))
    repeated = None if candidates is None else _repeated(candidates)[:, None]
    # At first all beams are alike; only one of them may have children.
    scores = (
        ops.tile(ops.concatenate([ops.zeros((1, 1)), ops.full((1, beam - 1), -1e9)], 1), (batch, 1))
        if beam > 1
        else ops.zeros((batch, 1))
    )
    rows = ops.arange(batch, dtype="int32")[:, None] * beam

    def unfinished(position, _, done, *rest):
        return ops.logical_and(position < decoder.max_length, ops.logical_not(ops.all(done)))

    def advance(position, word, done, words, scores, *old):
        logits, states = decoder.step(word, position, memory, list(old))
        number = ops.shape(logits)[-1]
        logits = ops.reshape(ops.cast(logits, "float32"), (batch, beam, number))
        if repeated is not None:
            logits = ops.where(repeated, -1e9, logits)
        gains = ops.log_softmax(logits)
        # A finished beam has one child, itself.
        only_first = ops.where(ops.arange(number) == 0, 0.0, -1e9)[None, None]
        gains = ops.where(done[:, :, None], only_first, gains)
        totals = ops.reshape(scores[:, :, None] + gains, (batch, beam * number))
        scores, best = ops.top_k(totals, beam)
        parent = ops.cast(best // number, "int32")
        chosen = ops.cast(best % number, "int32")
        if candidates is not None:
            chosen = ops.take_along_axis(candidates, chosen, axis=1)
        flat = ops.reshape(rows + parent, (-1,))
        moved = [ops.take(s, flat, axis=0) for s in states]
        done = ops.take_along_axis(done, parent, axis=1)
        chosen = ops.where(done, _PAD, chosen)
        done = ops.logical_or(done, chosen == _END)
        chosen = ops.reshape(chosen, (-1,))
        words = ops.take(words, flat, axis=0)
        words = ops.slice_update(words, (0, position), ops.expand_dims(chosen, 1))
        return (position + 1, chosen, done, words, scores, *moved)

    first = (
        ops.cast(0, "int32"),
        ops.full((batch * beam,), _START, dtype="int32"),
        ops.zeros((batch, beam), dtype="bool"),
        ops.zeros((batch * beam, decoder.max_length), dtype="int32"),
        scores,
        *decoder.start(batch * beam),
    )
    result = ops.while_loop(unfinished, advance, first)
    words = ops.reshape(result[3], (batch, beam, decoder.max_length))
    return words[:, 0], result[4][:, 0]


def _repeated(ids: Any) -> Any:
    """Which ids of each row stand there once more, all but one of the same, `(batch, length)`."""
    order = ops.argsort(ids, axis=-1)
    ordered = ops.take_along_axis(ids, order, axis=-1)
    again = ops.pad(ordered[:, 1:] == ordered[:, :-1], [[0, 0], [1, 0]])
    return ops.take_along_axis(again, ops.argsort(order, axis=-1), axis=-1)


def shortfalls(decoder: StepDecoder, source: Any, words: Any) -> tuple[Any, Any, Any]:
    """How far given words are from the likeliest ones, after the words before them.

    With a shortlist the likeliest ones and all are those of the candidates, each counted once; a
    word that is none of them is infinitely far.

    Args:
        decoder: The decoding step.
        source: Ids `(batch, length)`.
        words: Ids `(batch, max_length)`.

    Returns:
        Three arrays `(batch, max_length)`: by how much the logit of each word is smaller than the
        largest, by how much the mean of all logits is, and the log-probability of each word.
    """
    batch = ops.shape(source)[0]
    memory = decoder.encode(source)
    candidates = decoder.candidates(memory)
    counted = None if candidates is None else ops.logical_not(_repeated(candidates))
    places = ops.arange(decoder.max_length, dtype="int32")[None]

    def unfinished(position, *rest):
        return position < decoder.max_length

    def advance(position, word, of_words, of_all, gains, *old):
        logits, states = decoder.step(word, position, memory, list(old))
        logits = ops.cast(logits, "float32")
        best = ops.max(logits, axis=-1)
        given = ops.take(words, position, axis=1)
        if candidates is None:
            chosen = ops.take_along_axis(logits, given[:, None], axis=1)[:, 0]
            mean = ops.mean(logits, axis=-1)
            total = ops.logsumexp(logits, axis=-1)
        else:
            chosen = ops.max(
                ops.where(candidates == given[:, None], logits, -float("inf")), axis=-1
            )
            number = ops.sum(ops.cast(counted, "float32"), axis=-1)
            mean = ops.sum(ops.where(counted, logits, 0.0), axis=-1) / number
            total = ops.logsumexp(ops.where(counted, logits, -1e9), axis=-1)
        of_words = ops.where(places == position, (best - chosen)[:, None], of_words)
        of_all = ops.where(places == position, (best - mean)[:, None], of_all)
        gains = ops.where(places == position, (chosen - total)[:, None], gains)
        return (position + 1, given, of_words, of_all, gains, *states)

    first = (
        ops.cast(0, "int32"),
        ops.full((batch,), _START, dtype="int32"),
        *(ops.zeros((batch, decoder.max_length)) for _ in range(3)),
        *decoder.start(batch),
    )
    return ops.while_loop(unfinished, advance, first)[2:5]
