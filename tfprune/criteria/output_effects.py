"""What an error inside a model does to its outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from tfprune.criteria.consumers import Consumer
from tfprune.criteria.structure_scores import StructureScores
from tfprune.overlay.transforms import hooked
from tfprune.overlay.windows import input_shape
from tfprune.structures import Structure, Structures
from tfprune.structures.convolutions import reads_windows

EXAMPLES = 16
"""On how many examples the model is run for each structure, at most."""
ROWS = 256
"""How many positions of outputs are enough: of a language model a few passages have as many."""
SHARE = 0.5
"""The share of a structure's groups that are held."""
NOTHING = 1e-6
"""The share of the error without any group up to which groups emit nothing that matters."""


def output_effects(
    model: keras.Model,
    structures: Structures,
    consumers: Mapping[str, Sequence[Consumer]],
    scores: StructureScores,
    batches: Iterable[Any],
    instead: Callable[[Consumer], np.ndarray],
) -> dict[str, float]:
    """How much the outputs of a model change for each unit of error in a structure.

    Errors of layers cannot be added up as they are: a small one does much in front of a layer with
    large weights. So for one structure after the other the half of its groups that scores lowest is
    held at what takes its place, such as its mean. The change of the outputs, as a mean square and
    a share of their variance, is divided by the squared error of what the layers emit that read the
    groups: by the sum of the scores, or, where scores are errors of the best fit, by the error of
    what is held. More than half is held where half of the groups emit nothing that matters.

    Args:
        model: A built model. It is run once for each structure, and is not changed.
        structures: Its structures.
        consumers: Structure name to its consumers, with `Moments` where scores are cumulative.
        scores: Errors of structures.
        batches: Inputs of the model, of which the first 16 examples are used, and of outputs with
            many positions fewer, but at least 4.
        instead: What a consumer reads in place of groups that are held, `(inputs,)`.

    Returns:
        Structure name to the effect. 1 for all where the outputs are constant or not finite.
    """
    batches = _first_examples(model, batches, EXAMPLES)
    before = _outputs(model, batches)
    examples = sum(map(_examples, batches))
    enough = max(4, math.ceil(ROWS * examples / max(map(len, before), default=1)))
    if enough < examples:
        batches = _first_examples(model, batches, enough)
        before = _outputs(model, batches)
    # Once for all: of a language model they are taken over some ten thousand outputs.
    variances = [float(np.mean(np.var(one, axis=0, dtype="float64"))) for one in before]
    effects = {}
    for structure in structures:
        mine = consumers[structure.name]
        gone, error = _lowest(structure, mine, scores)
        with _held(structure, mine, gone, instead):
            change = _relative_change(before, variances, _outputs(model, batches))
        if change is None:
            return dict.fromkeys((s.name for s in structures), 1.0)
        effects[structure.name] = change / max(error, 1e-30)
    return effects


def noted(batches: Iterable[Any], first: list[Any]) -> Iterator[Any]:
    """Passes batches on, and puts those of the first examples, as many as are used, into a list."""
    examples = 0
    for x in batches:
        if examples < EXAMPLES:
            first.append(x)
            examples += _examples(x)
        yield x


def _lowest(structure, consumers, scores) -> tuple[np.ndarray, float]:
    """Which groups are held, a boolean array `(groups,)`, and the error of that."""
    groups, errors = structure.groups, scores.errors(structure.name)
    order = np.argsort(scores[structure.name], kind="stable")
    number = max(1, round(SHARE * groups))
    while True:
        gone = np.isin(np.arange(groups), order[:number])
        error = sum(_error(c, gone) for c in consumers) if scores.cumulative else errors[number]
        if number == groups or error > NOTHING * errors[-1]:
            return gone, error
        number += max(1, (groups - number) // 2)


def _examples(x) -> int:
    return len(tree.flatten(x)[0])


def _first_examples(model, batches, number) -> list[Any]:
    """The first examples; where the model takes no other number, whole batches."""
    is_fixed = any(
        t.shape[0] is not None for t in tree.flatten(getattr(model, "inputs", None) or ())
    )
    first = []
    for x in batches:
        if number <= 0:
            break
        kept = x if is_fixed else tree.map_structure(lambda t: t[:number], x)  # noqa: B023
        first.append(kept)
        number -= _examples(kept)
    return first


def _outputs(model, batches) -> list[np.ndarray]:
    """All outputs that are numbers, each `(positions, width)`."""
    found = []
    for x in batches:
        outputs = [o for o in tree.flatten(model(x, training=False)) if o is not None]
        numbers = [o for o in outputs if keras.backend.is_float_dtype(o.dtype)]
        found.append([ops.convert_to_numpy(ops.cast(o, "float32")) for o in numbers])
    parts = zip(*found, strict=True)
    return [
        np.concatenate([p.reshape(-1, p.shape[-1] if p.ndim > 1 else 1) for p in each])
        for each in parts
    ]


def _relative_change(before, variances, after) -> float | None:
    """The mean square of what has changed by the variance, the mean over outputs."""
    shares = []
    for one, variance, other in zip(before, variances, after, strict=True):
        change = float(np.mean(np.square(one - other), dtype="float64"))
        if variance > 0 and np.isfinite(variance) and np.isfinite(change):
            shares.append(change / variance)
    return float(np.mean(shares)) if shares else None


def _error(consumer: Consumer, gone: np.ndarray) -> float:
    """The mean square of what a consumer emits wrongly while groups are held."""
    rows = _inputs_of(gone, consumer)
    moments = consumer.sums
    products = moments.covariance() if consumer.has_bias else moments.second()
    kernel = consumer.kernel[rows].astype("float64")
    return float(np.sum(kernel * (products[np.ix_(rows, rows)] @ kernel)))


def _held(structure: Structure, consumers, gone, instead):
    """Inside a `with` block, consumers read something else in place of some groups."""
    pairs = zip(structure.consumers, consumers, strict=True)
    return hooked((share.layer, _hook(share, c, gone, instead(c))) for share, c in pairs)


def _inputs_of(gone: np.ndarray, consumer: Consumer) -> np.ndarray:
    """Which inputs belong to groups that are gone, a boolean array `(inputs,)`."""
    return np.append(gone, False)[consumer.owners]  # An owner of -1 is the last.


def _hook(share, consumer, gone, instead):
    shape = input_shape(share)
    rows = _inputs_of(gone, consumer)
    # At all places of a window a channel is the same; a kernel without one has no such axes.
    window = tuple(range(len(shape) - 1)) if reads_windows(share.layer) else ()
    stay = np.all((~rows).reshape(shape), axis=window)
    held = np.mean(np.where(rows, instead, 0.0).reshape(shape), axis=window)

    def hook(inputs, training):
        return inputs * ops.cast(stay, inputs.dtype) + ops.cast(held, inputs.dtype)

    return hook
