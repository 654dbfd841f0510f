"""Heads of attention layers that no kind is registered for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from inspect import signature
from typing import Any

import keras
import numpy as np

from tfprune.errors import in_one_line
from tfprune.keras_private.layers import layer_and_inner_layers, own_variables
from tfprune.structures.by_shape.guesses import Guess, guesses
from tfprune.structures.by_shape.proof import DIFFERS, Trial, counted
from tfprune.structures.by_shape.roles import Roles, find_roles
from tfprune.structures.by_shape.running import roles_by_running
from tfprune.structures.elementwise import is_identity
from tfprune.structures.graph import Graph
from tfprune.structures.running import Arguments, Running
from tfprune.structures.structure import Remainder, SkippedLayer, Slices, Structure


class HeadsByShape(Structure):
    """The heads of one attention, found by the shapes of its variables.

    A group is what must leave together: one key and value head with all the query heads that share
    it, and what rides on them. The layer is cut by giving its variables smaller shapes.

    Args:
        name: The path of the layer.
        layer: The layer that computes the attention.
        guess: How its heads lie in it, proven.
        silencers: The kernels that make what the heads find, the values.
        returns_heads: Whether the layer returns what one dense layer makes of the heads and nothing
            else, so that it is a constant without them.
    """

    kind = "heads"
    is_cut_by_shape = True

    def __init__(
        self,
        name: str,
        layer: keras.Layer,
        guess: Guess,
        silencers: tuple[Slices, ...],
        returns_heads: bool,
    ):
        super().__init__(name, guess.groups, guess.slices)
        self.layer = layer
        self._counts = guess.counts
        self.is_padded = guess.is_padded
        self._silencers = silencers
        self.least = 0 if returns_heads else 1

    @property
    def silencers(self):
        """The kernels that make what the heads find, the values."""
        return self._silencers

    def emitted(self, consumer, read):
        """Zero, where the biases of the values are; what else they give is not known."""
        size = [consumer.variable.shape[axis] for axis in consumer.connection_axes]
        silent = np.ones(self.groups, bool)
        makers = {id(share.layer) for share in self._silencers}
        for share in self.producers:
            if id(share.layer) in makers and not share.is_matrix:
                value = np.moveaxis(read(share.variable), share.axis, 0)
                silent &= self.by_group(value == 0, share).all(axis=1)
            elif id(share.layer) in makers and _has_shared_bias(share.layer, self.producers):
                silent &= not np.any(read(share.layer.bias))
        emitted = np.zeros(size, "float32")
        emitted[~np.repeat(silent, size[0] // self.groups)] = np.nan
        return emitted

    def resized_config(self, layer, groups):
        """Nothing: the layer is made as it was, then cut."""
        return {}

    def resized_numbers(self, groups):
        """The numbers of the layer and of those inside that count heads."""
        return counted(self._counts, groups)

    def remainders(self):
        """The bias of the layer that reads the heads."""
        if self.least:
            return []
        (consumer,) = self.consumers
        width = int(consumer.variable.shape[-1])
        return [Remainder(self.layer, consumer.bias_variable, (width,))]

    def layers(self):
        """The layer that computes the attention; those that it is made of are cut in it."""
        yield self.layer


def _has_shared_bias(layer, producers) -> bool:
    """Whether a layer has a bias that is the same for all heads."""
    return layer.bias is not None and not any(
        s.layer is layer and s.attribute == "bias" for s in producers
    )


def find_heads(
    layer: keras.Layer,
    graph: Graph,
    name: str,
    used: Sequence[bool] | None = None,
    running: Running | None = None,
) -> Iterator[Structure | SkippedLayer]:
    """Finds the heads of the attention that a layer computes with dense layers.

    Args:
        layer: A built layer made of layers, of a class that no kind is registered for.
        graph: Its graph, from a call on symbolic tensors.
        name: The layer's path.
        used: Which of the tensors that it returns are read; all of them by default. Others, such as
            attention scores that nobody asks for, may have an axis for heads.
        running: Knows what the layer is given when the model runs; asked where numbers in the place
            of the symbols do not fit together.

    Yields:
        Structures of the kind `"heads"`, or the reason why heads cannot be told.
    """
    for number, roles in enumerate(find_roles(graph)):
        given = [graph.arguments, lambda: running and running.arguments(layer)]
        found = _proven(layer, lambda *_, roles=roles: roles, given, used, number)
        if isinstance(found, str):
            yield SkippedLayer(layer, f"its heads cannot be told apart: {found}")
        else:
            guess, silencers = found
            yield HeadsByShape(name, layer, guess, silencers, _returns_heads(layer, graph, guess))


def find_heads_by_running(
    layer: keras.Layer, arguments: Arguments, name: str
) -> Iterator[Structure]:
    """Finds the heads of a layer whose graph cannot be traced.

    Args:
        layer: As in `find_heads`.
        arguments: What it is given when the model runs: arrays and whatever else.
        name: The layer's path.

    Yields:
        A structure of the kind `"heads"`, if the layer computes one attention and its heads can be
        told.
    """
    found = _proven(layer, _the_only_roles, [arguments], None, 0)
    if not isinstance(found, str):
        yield HeadsByShape(name, layer, *found, returns_heads=False)


def _the_only_roles(layer, trial):
    roles = roles_by_running(layer, trial)
    return roles[0] if len(roles) == 1 else None


def _returns_heads(layer, graph, guess) -> bool:
    consumers = [share for share in guess.slices if share.role == "consumer"]
    if len(consumers) != 1 or not isinstance(graph.result, keras.KerasTensor):
        return False
    (share,) = consumers
    if len(share.variable.shape) != len(share.connection_axes) + 1:
        return False
    bias = share.bias_variable
    if bias is not None and len(bias.shape) != 1:
        return False
    node = graph.producer(graph.outputs[0])
    while node is not None and is_identity(node.operation):
        node = graph.producer(node.input_tensors[0])
    if node is None or node.operation is not share.layer:
        return False
    # What stands for it has a vector for each position of the first argument.
    args, kwargs = graph.arguments
    given = signature(layer.call).bind(*args, **kwargs).arguments
    first = keras.tree.flatten(next(iter(given.values())))[0]
    return tuple(first.shape[:-1]) == tuple(graph.outputs[0].shape[:-1])


# -- proofs of layers of one class, which are alike -----------------------------------------------

_PROVEN: dict[Any, Any] = {}


def _proven(
    layer: keras.Layer,
    roles_of: Callable[[keras.Layer, Trial], Roles | None],
    arguments: list[Arguments | Callable[[], Arguments | None]],
    used: Sequence[bool] | None,
    number: int,
) -> tuple[Guess, tuple[Slices, ...]] | str:
    """The first guess that holds, with its silencers, or why none does.

    Layers that are alike have their heads in the same places, so one of them is tried.
    """
    layers = layer_and_inner_layers(layer)
    key = (_common(layers, arguments[0]), None if used is None else tuple(used), number)
    if key not in _PROVEN:
        for given in arguments:
            try:
                given = given() if callable(given) else given
                if given is not None:
                    found = _first_right(layer, roles_of, Trial(layer, *given, used))
                break
            except Exception as error:  # Whatever user code raises.
                found = f"it does not run on made-up numbers ({in_one_line(error)})"
        _PROVEN[key] = _recipe(layers, found)
    return _bound(layers, _PROVEN[key])


def _first_right(layer, roles_of, trial):
    reasons: Counter[str] = Counter()
    roles = roles_of(layer, trial)
    for guess in guesses(layer, roles) if roles else ():
        reason = trial.why_not(guess)
        if reason is None:
            silencers = trial.silencers(guess)
            if silencers:
                return guess, silencers
            reason = "nothing makes what they find"
        reasons[reason] += 1
    if not reasons:
        return "no number of heads fits its variables"
    return DIFFERS if DIFFERS in reasons else reasons.most_common(1)[0][0]


def _common(layers, arguments):
    """What two layers have in common that compute the same function of their weights."""
    own = []
    for layer in layers:
        plain = sorted(
            (name, repr(value))
            for name, value in vars(layer).items()
            if isinstance(value, (bool, int, float, str, tuple, list))
            and name.lstrip("_") not in ("name", "path", "parent_path", "auto_name")
        )
        shapes = [(tuple(v.shape), str(v.dtype), v.trainable) for v in own_variables(layer)]
        own.append((type(layer), repr(plain), repr(shapes)))
    given = [
        (tuple(x.shape), str(x.dtype)) if hasattr(x, "shape") else x
        for x in keras.tree.flatten(arguments)
    ]
    return (*own, repr(given))


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
