"""What a user can do about a layer that was skipped."""

from __future__ import annotations

import re

_REGISTER = (
    "register a kind for the class: `tfprune.structures.register_layer_kind`, with a description "
    "of its groups"
)

# Pattern of a reason to what helps; the first that fits.
_ADVICE = (
    (
        r"registered for (RNN|ConvLSTM\dD)\b",
        "recurrent layers other than LSTM, GRU and SimpleRNN stay as they are",
    ),
    (r"is stateful", "train it without states and make a stateful layer of the smaller one"),
    (r"registered for \w*(Embedding|Normalization|Norm)\b", ""),
    (
        r"^TimeDistributed calls it",
        "leave TimeDistributed out around a layer that works on the last axis, such as Dense",
    ),
    (r"channels come first", "make it with `data_format='channels_last'`"),
    (r"registered for|overrides `|heads cannot be told apart", _REGISTER),
    (
        r"does not run on symbolic tensors|cannot be looked into|in a way that cannot be followed",
        "write its `call` with `keras.ops` and without the values of tensors, or " + _REGISTER,
    ),
    (
        r"uses its weights without calling it|no call of it is seen",
        "call the layer where its weights are used",
    ),
    (
        r"its outputs go different ways",
        "parts of what it makes leave on their own: give each part a layer of its own",
    ),
    (r"sizes or places written in it", "work them out from the shape of the tensor"),
    (r"scores are used", "leave the scores out of the outputs"),
    (r"is quantized", "prune before you quantize"),
    (
        r"goes to .*Normalization|mixes units",
        "normalize before the layer that makes it, or behind the one that reads it",
    ),
    (
        r"does not treat each of them alone",
        "say what it does with them by a rule: `tfprune.structures.flow.register_rule`",
    ),
    (
        r"called in more than one model|also given what must stay|shares its|"
        r"belong to the groups of",
        "give each place a layer of its own",
    ),
)


def advice(reason: str) -> str:
    """What a user can do about a reason for which a layer was skipped.

    Args:
        reason: As in `Skipped.reason`.

    Returns:
        A clause, or nothing where nothing can be done: the outputs of a model, for instance, are
        what it is for.

    Example:

    >>> advice("it is quantized")
    'prune before you quantize'
    """
    return next((text for pattern, text in _ADVICE if re.search(pattern, reason)), "")
