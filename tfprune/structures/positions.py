"""Tables of positions, which layers hold themselves and which have no groups."""

from __future__ import annotations

import re

import keras

from tfprune.keras_private.layers import inner_layers, own_variables, own_variables_by_name

_POSITION = re.compile(r"(?<!com)position|(?<![a-z])pos(?![a-z])|(?<![a-z])pos_?e(mb|nc)")


def holds_only_positions(layer: keras.Layer) -> bool:
    """Whether the matrices that a layer holds itself are tables of positions, by their names.

    The names of the attributes tell it, or those of the variables; where a layer has one matrix and
    no layers inside, also the name of its class. It is for advice alone.

    Args:
        layer: A built layer.
    """
    matrices = [v for v in own_variables(layer) if len(v.shape) > 1]
    attributes = {id(v): name for name, v in own_variables_by_name(layer).items()}
    if len(matrices) == 1 and not inner_layers(layer) and _tells(type(layer).__name__):
        return True
    return bool(matrices) and all(
        _tells(v.name) or _tells(attributes.get(id(v), "")) for v in matrices
    )


def _tells(name: str) -> bool:
    return _POSITION.search(name.lower()) is not None
