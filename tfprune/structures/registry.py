"""Which kinds of structures are known; users add theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras

from tfprune.structures.graph import Graph
from tfprune.structures.overriding import reason_of
from tfprune.structures.skipped import SkippedLayer
from tfprune.structures.structure import Structure

Describe = Callable[[keras.Layer, str], Structure]
"""From a built layer and its name to its structure."""

Find = Callable[[Graph, Callable[[keras.Layer], str]], Iterable[Structure | SkippedLayer]]
"""From a graph, and a function that gives a layer's path, to the structures in it."""

# The description, and a function that gives the subclasses that it fits all the same.
_LAYER_KINDS: dict[
    type[keras.Layer], tuple[Describe, Callable[[], Sequence[type[keras.Layer]]]]
] = {}
# By the function's full name, so that one that is defined anew takes the place of the old one.
_GRAPH_KINDS: dict[str, tuple[Find, tuple[type[keras.Layer], ...]]] = {}


def register_layer_kind(
    layer_class: type[keras.Layer],
    same: Callable[[], Sequence[type[keras.Layer]]] = tuple,
) -> Callable[[Describe], Describe]:
    """Teaches `find_structures` a layer that holds its groups inside itself.

    The decorated function takes a built layer and its name and returns a `Structure`, or raises
    `ValueError` with the reason why this one cannot be pruned. Subclasses of `layer_class` are
    covered too, unless they override something that it computes.

    Args:
        layer_class: The layer class.
        same: Function of no argument: subclasses which override something, and whose groups can be
            removed all the same.

    Returns:
        A decorator that returns the function as it is.

    Raises:
        ValueError: If `layer_class` is no class of layers.

    Example: a mixture of experts, whose outputs are added up.

    >>> import keras, numpy as np, tfprune
    >>> from keras import ops
    >>> from tfprune.structures import Remainder, Slices, Structure, register_layer_kind
    >>> class Mixture(keras.layers.Layer):
    ...     def __init__(self, experts, **kwargs: Any):
    ...         super().__init__(**kwargs)
    ...         self.experts = experts
    ...     def build(self, shape):
    ...         width = shape[-1]
    ...         self.kernel_in = self.add_weight((self.experts, width, 8))
    ...         self.bias_in = self.add_weight((self.experts, 8))
    ...         self.kernel_out = self.add_weight((self.experts, 8, width))
    ...         self.bias_out = self.add_weight((width,))
    ...     def call(self, x):
    ...         units = ops.relu(ops.einsum("bw,ewh->beh", x, self.kernel_in) + self.bias_in)
    ...         return ops.einsum("beh,ehw->bw", units, self.kernel_out) + self.bias_out
    ...     def get_config(self):
    ...         return {**super().get_config(), "experts": self.experts}
    >>> class Experts(Structure):
    ...     kind = "experts"
    ...     def emitted(self, consumer, read):
    ...         return np.maximum(read(consumer.layer.bias_in), 0)
    ...     def resized_config(self, layer, groups):
    ...         return {"experts": groups}
    ...     def remainders(self):
    ...         layer = self.slices[0].layer
    ...         return [Remainder(layer, layer.bias_out, tuple(layer.bias_out.shape))]
    >>> @register_layer_kind(Mixture)
    ... def describe(layer, name):
    ...     return Experts(name, layer.experts, (
    ...         Slices(layer, "kernel_in", axis=0, role="producer", within=2),
    ...         Slices(layer, "bias_in", axis=0, role="producer", within=1),
    ...         Slices(layer, "kernel_out", axis=0, role="consumer", within=1, bias="bias_out"),
    ...     ))
    >>> model = keras.Sequential([keras.Input((4,)), Mixture(6, name="mixture")])
    >>> tfprune.find_structures(model)[0]
    <Experts mixture: 6 groups of 72>
    >>> small = tfprune.rebuild(model, keep={"mixture": np.arange(6) < 2})
    >>> small.layers[0].experts, model.count_params() - small.count_params()
    (2, 288)
    """
    _check("layer_class", layer_class)

    def register(describe: Describe) -> Describe:
        _LAYER_KINDS[layer_class] = describe, same
        return describe

    return register


def register_graph_kind(*layer_classes: type[keras.Layer]) -> Callable[[Find], Find]:
    """Teaches `find_structures` a kind whose groups lie between the layers of a graph of calls.

    What one layer makes and others read, no layer can describe by itself. Where a rule says how it
    flows (`tfprune.structures.flow.register_rule`), no kind of its own is needed. The decorated
    function takes a `Graph` and a function `name_of(layer)` that gives a layer's path, and yields
    for each family of groups a `Structure`, or `SkippedLayer` with the reason why it must stay.

    Args:
        *layer_classes: The layer classes whose groups the function finds. `find_structures` does
            not look for graphs inside those layers.

    Returns:
        A decorator that returns the function as it is.

    Raises:
        ValueError: If there are no layer classes, or one is no class of layers.

    Example:

    >>> import keras
    >>> from tfprune.structures import SkippedLayer, find_structures, register_graph_kind
    >>> class Channels(keras.layers.Conv1D): ...
    >>> @register_graph_kind(Channels)
    ... def find_channels(graph, name_of):
    ...     for node in graph.nodes:
    ...         if isinstance(node.operation, Channels):
    ...             yield SkippedLayer(node.operation, f"{name_of(node.operation)} is an example")
    >>> model = keras.Sequential([keras.Input((4, 3)), Channels(2, 1, name="conv")])
    >>> find_structures(model).skipped
    (Skipped(name='conv', reason='conv is an example'),)
    """
    if not layer_classes:
        raise ValueError("`layer_classes` must name at least one layer class. Received: none")
    for layer_class in layer_classes:
        _check("layer_classes", layer_class)

    def register(find: Find) -> Find:
        _GRAPH_KINDS[f"{find.__module__}.{find.__qualname__}"] = (find, layer_classes)
        return find

    return register


def _check(argument: str, layer_class) -> None:
    if not (isinstance(layer_class, type) and issubclass(layer_class, keras.Layer)):
        raise ValueError(
            f"`{argument}` must be a subclass of `keras.Layer`. Received: {layer_class!r}"
        )


def describe_of(layer: keras.Layer) -> Describe | None:
    """The registered description of a layer's class or of the nearest of its base classes.

    Where the class overrides something that the registered class computes, the description raises
    a `ValueError` that says so.
    """
    registered = _registered(layer)
    reason = refusal_of(layer)
    return registered and (_LAYER_KINDS[registered][0] if reason is None else _refusing(reason))


def refusal_of(layer: keras.Layer) -> str | None:
    """Why a registered description does not fit a layer; `None` if it does, or if there is none."""
    registered = _registered(layer)
    if registered is None or type(layer) in _LAYER_KINDS[registered][1]():
        return None
    return reason_of(layer, registered)


def _registered(layer):
    return next((cls for cls in type(layer).__mro__ if cls in _LAYER_KINDS), None)


def _refusing(reason: str) -> Describe:
    def refuse(layer, name):
        raise ValueError(reason)

    return refuse


def graph_kinds() -> tuple[Find, ...]:
    """The registered functions that find structures in a graph, in the order of registration."""
    return tuple(find for find, _ in _GRAPH_KINDS.values())


def nearest_in_graph_kind(operation: Any) -> type | None:
    """The class of an operation, or the nearest of its base classes, that a graph kind finds."""
    registered = {cls for _, classes in _GRAPH_KINDS.values() for cls in classes}
    return next((cls for cls in type(operation).__mro__ if cls in registered), None)


def is_in_graph_kind(operation: Any) -> bool:
    """Whether a layer or operation is of a class whose groups a graph kind finds."""
    return any(isinstance(operation, classes) for _, classes in _GRAPH_KINDS.values())
