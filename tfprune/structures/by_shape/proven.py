"""What was proven of one layer, for all that are like it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras

from tfprune.errors import in_one_line
from tfprune.keras_private.layers import kept_by_keras, layer_and_inner_layers, own_variables
from tfprune.structures.by_shape.guesses import Guess
from tfprune.structures.by_shape.proof import DIFFERS, Trial
from tfprune.structures.running import Arguments
from tfprune.structures.slices import Slices

Found = tuple[Guess, tuple[Slices, ...]] | str
"""A guess that holds, with the kernels that silence its groups, or why none does."""

Given = Arguments | Callable[[], Arguments | None] | None
"""What a layer may be given, or how it is found out; `None` if it is not known."""

_PROVEN: dict[Any, list[Any]] = {}


def proven(
    layer: keras.Layer,
    what: Any,
    guesses: Callable[[Trial], Iterable[Iterable[Guess]]],
    arguments: Iterable[Given],
    used: Sequence[bool] | None = None,
) -> list[Found]:
    """The first guesses that hold.

    Layers that are alike have their groups in the same places, so one of them is tried.

    Args:
        layer: The layer.
        what: What is looked for, so that what was found is known again.
        guesses: Gives guesses, for each of what may be found, from a trial of the layer.
        arguments: What the layer may be given; the second where it does not run on the first.
        used: Which of the tensors that it returns are compared.

    Returns:
        What was found, in the order of `guesses`.
    """
    layers = layer_and_inner_layers(layer)
    given = list(arguments)
    key = (_common(layers, given[0]), None if used is None else tuple(used), what)
    if key not in _PROVEN:
        _PROVEN[key] = [_recipe(layers, found) for found in _tried(layer, guesses, given, used)]
    return [_bound(layers, recipe) for recipe in _PROVEN[key]]


def _tried(layer, guesses, arguments: Iterable[Given], used) -> list[Found]:
    reason = "what it is given is not known"
    for each in arguments:
        given = each() if callable(each) else each
        if given is None:
            continue
        try:
            trial = Trial(layer, *given, used)
            return [_first_right(some, trial) for some in guesses(trial)]
        except Exception as error:  # Whatever user code raises.
            reason = f"it does not run on made-up numbers ({in_one_line(error)})"
    return [reason]


def _first_right(guesses, trial) -> Found:
    reasons: Counter[str] = Counter()
    for guess in guesses:
        reason = trial.why_not(guess)
        if reason is None:
            return guess, trial.silencers(guess)
        reasons[reason] += 1
    if not reasons:
        return "no number of heads fits its variables"
    return DIFFERS if DIFFERS in reasons else reasons.most_common(1)[0][0]


def _common(layers, arguments):
    """What two layers have in common that compute the same function of their weights."""
    ours = kept_by_keras(False)
    own = []
    for layer in layers:
        told = tuple(
            (name, _told(value)) for name, value in sorted(vars(layer).items()) if name not in ours
        )
        shapes = tuple((tuple(v.shape), str(v.dtype), v.trainable) for v in own_variables(layer))
        own.append((type(layer), told, shapes))
    given = tuple(
        (tuple(x.shape), str(x.dtype)) if hasattr(x, "shape") else repr(x)
        for x in keras.tree.flatten(arguments)
    )
    return (*own, given)


def _told(value, depth=0):
    """What of an attribute tells layers apart: plain values, also those that an object holds."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return tuple(_told(x, depth) for x in value)
    if isinstance(value, Mapping):
        return tuple((str(key), _told(x, depth)) for key, x in value.items())
    if callable(value) and hasattr(value, "__qualname__"):
        return value.__qualname__
    # Initializers have a seed each.
    opaque = (keras.Layer, keras.Variable, keras.initializers.Initializer)
    is_opaque = isinstance(value, opaque) or hasattr(value, "shape") or depth > 1
    inside = () if is_opaque else _told(getattr(value, "__dict__", {}), depth + 1)
    return type(value).__qualname__, inside


def _recipe(layers, found):
    """What was found, with the places of layers in the place of layers."""
    if isinstance(found, str):
        return found
    guess, silencers = found
    place = {id(layer): i for i, layer in enumerate(layers)}
    slices = [(place[id(s.layer)], replace(s, layer=None)) for s in guess.slices]
    counts = [(place[id(c.layer)], replace(c, layer=None)) for c in guess.counts]
    plain = replace(guess, slices=(), counts=())
    return plain, slices, counts, [guess.slices.index(s) for s in silencers]


def _bound(layers, recipe):
    """A recipe for certain layers."""
    if isinstance(recipe, str):
        return recipe
    plain, slices, counts, silencers = recipe
    own = tuple(replace(s, layer=layers[i]) for i, s in slices)
    counts = tuple(replace(c, layer=layers[i]) for i, c in counts)
    return replace(plain, slices=own, counts=counts), tuple(own[i] for i in silencers)
