"""Fits the layers that read groups of which some go, in the order in which a model calls them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import ops

from tfprune.arguments import number, one_of
from tfprune.overlay.activations import Read, observe, side_by_side
from tfprune.overlay.moments import Moments
from tfprune.repair.least_squares import RIDGE, Fit, fit
from tfprune.repair.readers import Reader, readers
from tfprune.repair.restoring import readers_restored
from tfprune.structures import Structures
from tfprune.tables import significant, table, wrapped
from tfprune.user_warnings import warn

HOW = ("least_squares", "bias")
_LEAST, _TIMES = 4096, 4  # Positions in all, and for each input.


@dataclass
class Repairs:
    """What `repair` has done; prints as a table.

    Args:
        errors: Layer path to the mean squared error of what it emits, as a share of the variance of
            that: without a fit, with the bias corrected, and as it was fitted.
        positions: Layer path to the positions it was fitted on.
        skipped: Layer path to the reason why it was not fitted.
    """

    errors: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        rows = [
            [name, f"{self.positions[name]:,}", *map(significant, errors)]
            for name, errors in self.errors.items()
        ]
        columns = ["layer", "positions", "without", "bias", "fitted"]
        parts = (
            [table(columns, rows, "Error, as a share of the variance", paths=True)] if rows else []
        )
        parts += [wrapped(f"{name}: not fitted, {why}") for name, why in self.skipped.items()]
        return "\n".join(parts)


def repair(
    model: keras.Model,
    structures: Structures,
    keep: Mapping[str, np.ndarray],
    batches: Sequence[Any],
    how: str = "least_squares",
    ridge: float = RIDGE,
    undo_on_error: bool = True,
    verbose: int = 0,
) -> Repairs:
    """Fits what reads the groups that go to those that stay; the groups are then read no more.

    Each layer is fitted on what reaches it in the network that is pruned and fitted up to there; a
    layer that the model calls in several places is fitted before all others, on what reaches it in
    all of them. Kernels that read groups that go, and the biases behind them, are changed; what
    makes the groups is left for `rebuild` or a callback. If something fails, all is as it was.

    Args:
        model: A built model.
        structures: Its structures.
        keep: Structure name to boolean array `(groups,)`, false for the groups that go.
        batches: Inputs of the model, batch by batch. All are in memory at once, with what the
            layers of the model make of them.
        how: `"least_squares"`, or `"bias"`: only what the groups emit on average is put into the
            biases.
        ridge: As in `tfprune.repair.least_squares.fit`.
        undo_on_error: Whether the weights are kept until all is done; a caller that keeps them
            itself need not have them twice.
        verbose: 1 shows progress, layer by layer.

    Returns:
        The errors before and after, layer by layer.

    Raises:
        ValueError: If an argument is out of range, or what reaches a layer is not finite.

    Source: Kwon et al., "A Fast Post-Training Pruning Framework for Transformers", 2022; that
    layers are fitted one after the other as in Frantar et al., "ZipLM", 2023, section 3.
    """
    one_of("how", how, HOW)
    number("ridge", ridge, least=0)
    found = readers(structures, keep)
    done = Repairs(skipped={r.layer.path: r.why_not for r in found if r.why_not})
    left = {id(r.layer): r for r in found if not r.why_not}
    with readers_restored(structures) if undo_on_error else nullcontext():
        if left and batches:
            calls = _calls(model, batches[:1], [r.layer for r in left.values()])
            for key in [key for key in left if not calls[key]]:
                done.skipped[left.pop(key).layer.path] = "the model does not call it"
            bar = keras.utils.Progbar(len(left), unit_name="layer", verbose=verbose)

            def fitted(reader: Reader, moments: Moments) -> None:
                _fit(reader, moments, how, ridge, done)
                bar.add(1)

            several = [r for key, r in left.items() if calls[key] > 1]
            _fit_together(model, batches, several, fitted)
            once = {key: r for key, r in left.items() if calls[key] == 1}

            def meet(layer: keras.Layer, reads: list[Read]) -> None:
                reader = once[id(layer)]
                moments = Moments(reader.width)
                for read in reads:
                    moments.add(reader.rows(read, _most(reader, batches)))
                fitted(reader, moments)

            if once:
                side_by_side(model, batches, [r.layer for r in once.values()], meet)
    return done


def _calls(model, batches, layers) -> Counter[int]:
    calls: Counter[int] = Counter()
    observe(model, batches, layers, lambda layer, read: calls.update([id(layer)]))
    return calls


def _fit_together(model, batches, several: list[Reader], fitted):
    """Fits layers that are called in several places, on one pass over the data."""
    if not several:
        return
    moments = {id(r.layer): (r, Moments(r.width)) for r in several}

    def seen(layer, read):
        reader, own = moments[id(layer)]
        own.add(reader.rows(read, _most(reader, batches)))

    observe(model, batches, [r.layer for r in several], seen)
    for reader, own in moments.values():
        fitted(reader, own)


def _most(reader: Reader, batches) -> int:
    """How many positions of each batch a convolution is fitted on, at most."""
    return max(_LEAST, _TIMES * reader.width) // len(batches) + 1


def _fit(reader: Reader, moments: Moments, how: str, ridge: float, done: Repairs) -> None:
    path = reader.layer.path
    if not np.isfinite(moments.mean).all():
        raise ValueError(
            f"`data` leads to numbers that are not finite in front of layer {path!r}, or "
            "holds such itself. Which weights would be right cannot be told."
        )
    if moments.count < reader.stays.sum():
        warn(
            f"{path} is fitted to {int(reader.stays.sum())} inputs on {moments.count} positions "
            "of `data`, padding left out; as many positions as inputs are needed, and several "
            "times as many are better. What is missing is held near the weights as they were.",
        )
    kernel, bias = reader.kernel, reader.share.bias_variable
    matrix = ops.convert_to_numpy(ops.cast(kernel, "float32")).reshape(reader.width, -1)
    has_bias = bias is not None and int(np.prod(bias.shape)) == matrix.shape[1]
    result: Fit = fit(moments, matrix, reader.stays, has_bias, how, ridge)
    kernel.assign(result.kernel.reshape(kernel.shape).astype("float32"))
    if bias is not None and has_bias:
        before = ops.convert_to_numpy(ops.cast(bias, "float32"))
        change = reader.share.bias_sign * result.bias_change.reshape(bias.shape)
        bias.assign(before + change.astype("float32"))
    variance = max(result.variance, 1e-30)
    without, corrected, fitted = (error / variance for error in result.errors)
    done.errors[path] = (without, corrected, fitted)
    done.positions[path] = moments.count
