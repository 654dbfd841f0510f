"""Units whose weights a layer holds itself, such as those of a bank of experts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, product

import keras

from tfprune.keras_private.layers import own_variables_by_name, plain_variable
from tfprune.structures.by_shape.groups import GroupsByShape
from tfprune.structures.by_shape.guesses import (
    Guess,
    counts_heads,
    counts_of,
    counts_units,
    numbers_of,
)
from tfprune.structures.by_shape.proven import Given, proven
from tfprune.structures.running import Arguments, Running
from tfprune.structures.slices import Slices
from tfprune.structures.structure import Structure

_MOST = 4  # Sizes that are tried.


def find_own_units(
    layer: keras.Layer, arguments: Arguments | None, name: str, running: Running
) -> Iterator[Structure]:
    """Finds the units, or heads, whose weights a layer holds itself.

    Args:
        layer: A built layer of a class that no kind is registered for.
        arguments: Of a call on symbolic tensors, if one is known.
        name: The layer's path.
        running: Knows what the layer is given when the model runs.

    Yields:
        A structure of the kind `"ffn"`, or `"heads"` if the layer says that it has as many heads.
    """
    given: list[Given] = [arguments] if arguments else []
    given.append(lambda: running.arguments(layer))
    for found in proven(layer, "own", lambda trial: [guesses_of_own_weights(layer)], given):
        if not isinstance(found, str):
            guess, _ = found
            of_heads = {n for _, attribute, _, n in numbers_of(layer) if counts_heads(attribute)}
            kind = "heads" if guess.groups in of_heads else "ffn"
            # Which biases a unit has cannot be told, so it leaves when nothing reads it.
            yield GroupsByShape(kind, name, layer, guess, ())


def guesses_of_own_weights(layer: keras.Layer) -> Iterator[Guess]:
    """The ways in which units may lie in the weights that a layer holds itself.

    A unit has a place along one axis of each of several weights, all of the same size: of those
    that make it, and of one that reads it.

    Args:
        layer: A built layer.

    Yields:
        Guesses, of which none need be right.
    """
    weights = own_variables_by_name(layer)
    matrices = {name: v for name, v in weights.items() if len(v.shape) > 1}
    sizes = Counter(n for v in matrices.values() for n in {*v.shape, *(m // 2 for m in v.shape)})
    numbers = list(numbers_of(layer))
    for groups in sorted((n for n, times in sizes.items() if times > 1 and n > 1))[::-1][:_MOST]:
        # Two parts of one weight are those that make a unit and its gate, whole or in turn.
        for parts in (None, (groups, groups)):
            options = [list(_shares(layer, name, groups, parts)) for name in weights]
            for shared in islice(product(*(each for each in options if each)), _MOST**2):
                if parts and not any(s.segments for s in shared):
                    continue
                # What reads is made last, as a rule.
                for reader in [s for s in shared if s.is_matrix and not s.segments][::-1]:
                    shares = [s for s in shared if s is not reader]
                    shares.append(replace(reader, role="consumer"))
                    for counts in counts_of(numbers, shares, groups, {groups}, counts_units):
                        yield Guess(groups, tuple(shares), counts)


def _shares(layer, name, groups, parts) -> Iterator[Slices]:
    """The ways in which a weight may hold the groups; the last axes are likelier."""
    shape = plain_variable(layer, name).shape
    for size in (groups, 2 * groups):
        for axis in reversed([axis for axis, n in enumerate(shape) if n == size]):
            segments = parts if size > groups else None
            yield Slices(layer, name, axis, "producer", segments=segments)
