"""Which rule says how positions flow through a layer or operation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras

from tfprune.structures.overriding import reason_of
from tfprune.structures.registry import nearest_in_graph_kind

Rule = Callable[[Any, Any], None]
"""From a `Flow` and a Keras node: labels the outputs of the node."""

_RULES: dict[type, Rule] = {}


def register_rule(*classes: type) -> Callable[[Rule], Rule]:
    """Teaches `Flow` how positions flow through layers and operations of some classes.

    Layers and operations that treat the positions along an axis alone need no rule: they are found
    out on numbers. Of others the decorated function says what they do with the labels of the
    positions.

    Args:
        *classes: Classes of layers or operations. Subclasses of layer classes are covered too,
            unless they override something that is computed.

    Returns:
        A decorator that returns the function as it is.

    Example: of each pair of neighbouring channels the larger one goes on, so they leave together.

    >>> import keras, numpy as np, tfprune
    >>> from keras import layers, ops
    >>> from tfprune.structures.flow import register_rule
    >>> class Maxout(layers.Layer):
    ...     def call(self, x):
    ...         return ops.maximum(x[..., ::2], x[..., 1::2])
    >>> @register_rule(Maxout)
    ... def flow_maxout(flow, node):
    ...     *others, read = flow.labels(node.input_tensors[0])
    ...     if read is not None:
    ...         read = flow.join(read[::2], read[1::2], "its neighbour must stay")
    ...     flow.set(node.outputs[0], [*others, read])
    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 3)), layers.Conv2D(12, 3, name="conv"), Maxout(), layers.Dense(2),
    ... ])
    >>> tfprune.find_structures(model)[0]
    <Channels conv: 6 groups of 58>
    >>> tfprune.rebuild(model, keep={"conv": np.arange(6) < 2}).get_layer("conv").filters
    4
    """

    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(classes, rule))
        return rule

    return register


def has_rule(cls: type) -> bool:
    """Whether there is a rule for this very class."""
    return cls in _RULES


def rule_of(operation: Any) -> Rule | None:
    """The rule for a layer or operation, `None` if there is none.

    There is none for a subclass that a graph kind of somebody else finds.
    """
    known: Iterable[type] = type(operation).__mro__
    if not isinstance(operation, keras.Layer):
        known = [type(operation)]
    found = next((cls for cls in known if cls in _RULES), None)
    if found is None:
        return None
    if isinstance(operation, keras.Layer) and reason_of(operation, found):
        return None
    nearest = nearest_in_graph_kind(operation)
    if nearest is not None and nearest is not found and issubclass(nearest, found):
        return None
    return _RULES[found]
