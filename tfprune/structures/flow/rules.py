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

    Args:
        *classes: Classes of layers or operations. Subclasses of layer classes are covered too,
            unless they override something that is computed.

    Returns:
        A decorator that returns the function as it is.
    """

    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(classes, rule))
        return rule

    return register


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
