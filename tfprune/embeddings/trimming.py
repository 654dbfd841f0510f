"""Trims the vocabulary of a model to the tokens that a corpus uses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras

from tfprune.arguments import built_model
from tfprune.embeddings.factorized_embedding import is_embedding
from tfprune.embeddings.tokenizers import trimmable, used_by
from tfprune.keras_private.functional import operation_of
from tfprune.keras_private.layers import inner_layers
from tfprune.rebuild.rebuilding import rebuilt_by
from tfprune.structures import Structure, Structures, find_structures
from tfprune.structures.slices import Slices
from tfprune.structures.structure import Remainder


def trim_vocabulary(
    model: keras.Model, tokenizer: Any, corpus: Iterable[str]
) -> tuple[keras.Model, Any]:
    """Removes the tokens that a corpus does not use, from a model and from its tokenizer.

    The corpus is split into the same tokens as before, with new ids, and the model computes the
    same for it. Special tokens and single characters stay, so that any other text can be encoded
    too, if in more tokens.

    Args:
        model: A built model with an `Embedding` or a `ReversibleEmbedding` that has one row for
            each token, also inside a KerasHub layer. Dense layers whose outputs are the model's
            logits over the vocabulary are trimmed too.
        tokenizer: A WordPiece tokenizer of KerasHub such as `BertTokenizer`, or a
            `tfprune.embeddings.TrimmableTokenizer`, as `tfprune.translation.Vocabulary` is.
        corpus: Texts.

    Returns:
        A new model and a new tokenizer; the given ones are not changed.

    Raises:
        ValueError: If the tokenizer is of another kind, the model is not built or has no such
            embedding, or the corpus is no series of texts or holds none.

    Source: the share of parameters in embeddings is what keeps small multilingual models large; Li
    et al., 2022, section 6.2.

    Example:

    >>> from tfprune.translation import Vocabulary, student
    >>> vocabulary = Vocabulary.train(["one two three four five"] * 10, size=275)
    >>> model = student(len(vocabulary), 1, 1, model_dim=8, feed_forward_dim=8, num_heads=2)
    >>> small, fewer = trim_vocabulary(model, vocabulary, ["one two"])
    >>> len(fewer) < len(vocabulary), small.output_shape[-1] == len(fewer)
    (True, True)
    >>> fewer.decode(fewer.encode("one two"))
    'one two'
    """
    built_model("model", model)
    vocabulary = trimmable(tokenizer)
    rows = _rows_of(model, vocabulary.size)
    used = used_by(vocabulary, corpus)
    if not used.any():
        raise ValueError("`corpus` must hold text. Received: none")
    kept = used | vocabulary.always_kept()
    # The other structures are passed too, so that gates on them are kept.
    structures = Structures([*find_structures(model), *rows])
    keep = {s.name: kept for s in rows}
    small = rebuilt_by(model, structures, keep, others_stay=True)
    return small, vocabulary.with_tokens(kept)


class VocabularyRows(Structure):
    """The rows of an embedding, or the columns of a layer whose outputs are logits over tokens.

    Args:
        layer: The layer.
        size: The argument of the layer that says how many rows or columns there are.
        slices: The shares in its variables.
    """

    kind = "vocabulary"

    def __init__(self, layer: keras.Layer, size: str, slices: Sequence[Slices]):
        super().__init__(f"{layer.path}/vocabulary", getattr(layer, size), tuple(slices))
        self.size = size

    def resized_config(self, layer: keras.Layer, groups: int) -> dict[str, Any]:
        """Fewer rows, or fewer units."""
        return {self.size: groups}

    def remainders(self) -> list[Remainder]:
        """Not needed: special tokens always stay."""
        return []


def _rows_of(model, number) -> list[VocabularyRows]:
    seen: set[int] = set()
    rows: list[VocabularyRows] = []
    for layer in inner_layers(model):
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        if is_embedding(layer) and layer.input_dim == number:
            slices = [Slices(layer, "embeddings", 0, "producer")]
            if hasattr(layer, "reverse_embeddings"):
                slices.append(Slices(layer, "reverse_embeddings", 1, "producer"))
            rows.append(VocabularyRows(layer, "input_dim", slices))
        elif (
            isinstance(layer, keras.layers.Dense)
            and layer.units == number
            and _gives_output(model, layer)
        ):
            slices = [Slices(layer, "kernel", 1, "producer")]
            if layer.use_bias:
                slices.append(Slices(layer, "bias", 0, "producer"))
            rows.append(VocabularyRows(layer, "units", slices))
    if not any(s.size == "input_dim" for s in rows):
        lengths = sorted({x.input_dim for x in inner_layers(model) if is_embedding(x)})
        raise ValueError(
            f"`model` must have an embedding of {number} rows, as many as the tokenizer has "
            f"tokens. Received: embeddings of {', '.join(map(str, lengths)) or 'no'} rows"
        )
    return rows


def _gives_output(model, layer) -> bool:
    outputs = getattr(model, "outputs", None) or []
    return any(operation_of(t) is layer for t in outputs)
