"""Replaces trained embeddings by products of two smaller matrices."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
from keras import ops

from tfprune.arguments import built_model, integer
from tfprune.embeddings.factorized_embedding import FactorizedEmbedding
from tfprune.keras_private.layers import inner_layers
from tfprune.rebuild.rebuilding import rebuilt_by
from tfprune.structures import find_structures
from tfprune.tables import wrapped


def factorize_embeddings(
    model: keras.Model, rank: int | Mapping[str, int], verbose: int = 1
) -> keras.Model:
    """Replaces embeddings by `Ê P`, their best approximation of a rank in the Frobenius norm.

    The ranks can then be pruned further: `find_structures` shows them as groups of the kind
    `"ranks"`, callbacks prune them, `rebuild` removes them.

    Args:
        model: A built model with an `Embedding` or a tied `ReversibleEmbedding`, also inside a
            KerasHub layer.
        rank: The rank of all embeddings, or a dictionary from names of embeddings to ranks, in
            which case other embeddings are not changed. Embeddings whose smaller side is no larger
            than the rank are not changed either.
        verbose: 1 prints the relative error of each embedding, `‖E − Ê P‖ / ‖E‖`.

    Returns:
        A new model; the given one is not changed.

    Raises:
        ValueError: If `model` is no built Keras model, or `rank` is not a positive integer, names
            an embedding that the model does not have, or leaves no embedding to factorise.

    Source: Eckart & Young, "The Approximation of One Matrix by Another of Lower Rank", 1936; Li et
    al., 2022, section 3.

    Example:

    >>> import keras, tfprune
    >>> ids = keras.Input((None,), dtype="int32")
    >>> model = keras.Model(ids, keras.layers.Embedding(50, 16, name="words")(ids))
    >>> small = factorize_embeddings(model, rank=4, verbose=0)
    >>> small.count_params(), tfprune.find_structures(small)[0].groups
    (264, 4)
    """
    built_model("model", model)
    if isinstance(rank, Mapping):
        rank = {name: integer(f"rank[{name!r}]", value) for name, value in rank.items()}
    else:
        rank = integer("rank", rank)
    replacements, lines = {}, []
    found = embeddings_of(model)
    unknown = set(rank) - set(found) if isinstance(rank, Mapping) else set()
    for name, layer in found.items():
        wanted = rank.get(name) if isinstance(rank, Mapping) else rank
        if wanted is None or wanted >= min(layer.input_dim, layer.output_dim):
            continue
        replacements[id(layer)], error = _factorized(layer, wanted)
        lines.append(f"{name}: rank {wanted} of {layer.output_dim}, relative error {error:.3f}")
    if unknown or not replacements:
        sizes = ", ".join(f"{n} ({e.input_dim} x {e.output_dim})" for n, e in found.items())
        raise ValueError(
            "`rank` must be smaller than both sizes of an embedding of the model, and name only "
            f"embeddings that it has. Received: rank={rank!r} and embeddings {sizes or 'none'}"
        )
    if verbose:
        print(*map(wrapped, lines), sep="\n")
    return rebuilt_by(model, find_structures(model), None, replacements, others_stay=True)


def embeddings_of(model: keras.Model) -> dict[str, keras.Layer]:
    """Path to embedding, for those that can be factorised."""
    return {layer.path: layer for layer in inner_layers(model) if _can_be_factorized(layer)}


def _can_be_factorized(layer) -> bool:
    """Whether a `FactorizedEmbedding` computes the same, given the same table.

    Subclasses that override `call` do something else with the table, and where the reverse
    direction is not tied there is a second one.
    """
    known = [
        getattr(keras.layers, name).call
        for name in ("Embedding", "ReversibleEmbedding")
        if hasattr(keras.layers, name)
    ]
    return type(layer).call in known and getattr(layer, "tie_weights", True)


def _factorized(layer, rank):
    """Class, configuration and weights of the new layer, and the relative error."""
    table = ops.convert_to_numpy(ops.cast(layer.embeddings, "float32")).astype("float64")
    left, values, right = np.linalg.svd(table, full_matrices=False)
    # The root of each singular value on both sides: neither matrix learns much faster.
    root = np.sqrt(values[:rank])
    error = float(np.sqrt(np.sum(values[rank:] ** 2) / max(np.sum(values**2), 1e-30)))
    config = {
        "name": layer.name,
        "dtype": keras.saving.serialize_keras_object(layer.dtype_policy),
        "trainable": layer.trainable,
        "input_dim": layer.input_dim,
        "output_dim": layer.output_dim,
        "rank": rank,
        "mask_zero": layer.mask_zero,
        "reverse_dtype": getattr(layer, "reverse_dtype", None),
        "logit_soft_cap": getattr(layer, "logit_soft_cap", None),
    }
    weights = [left[:, :rank] * root, root[:, None] * right[:rank]]
    return (FactorizedEmbedding, config, weights), error
