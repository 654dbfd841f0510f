"""What stays float in a LiteRT file, and which layers of the model bring it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import keras
import numpy as np

from tfprune.litert import Operation
from tfprune.model_parts import own_children

_SHOWN = 3  # Layers of one class that a message names.
_ELSEWHERE = ""  # In no layer, or it cannot be told in which.


def float_operations(path: str | os.PathLike) -> list[Operation]:
    """The operations of a LiteRT file that compute with floating-point numbers.

    Args:
        path: The file.

    Returns:
        The operations; quantizing and dequantizing at the border of such are not among them.
    """
    from tfprune.litert import operations

    return [
        operation
        for operation in operations(path)
        if operation.name not in ("QUANTIZE", "DEQUANTIZE")
        and any(np.issubdtype(t, np.floating) for t in operation.types)
    ]


def has_int8(path: str | os.PathLike) -> bool:
    """Whether an operation of a LiteRT file reads or makes int8, or may do so inside a loop.

    Args:
        path: The file.
    """
    from tfprune.litert import operations

    return any(np.int8 in op.types or op.name == "WHILE" for op in operations(path))


def with_layers(operations: Sequence[Operation], model: keras.Model) -> str:
    """Operations in words, with the layers that bring them where that can be told.

    Args:
        operations: Operations of the LiteRT file of a model.
        model: The model that was converted.

    Returns:
        Text such as `"NEG in LayerNormalization 'norm_1', 'norm_2'"`.
    """
    found: dict[str, dict[str, dict[str, None]]] = {}
    for operation in operations:
        classes = found.setdefault(operation.name, {})
        paths = _layers(operation.makes, model)
        for path in paths:
            names = "/".join(layer.name for layer in path)
            classes.setdefault(type(path[-1]).__name__, {})[names] = None
        if not paths:
            classes[_ELSEWHERE] = {}
    return "; ".join(_in_words(name, classes) for name, classes in found.items())


def _in_words(operation, classes):
    places = [_few(kind, list(names)) for kind, names in classes.items() if names]
    if not places:
        return operation
    return f"{operation} in {' and '.join(places)}" + " and elsewhere" * (_ELSEWHERE in classes)


def _few(kind, names):
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return f"{kind} {shown}" + f", … ({len(names)} in all)" * (len(names) > _SHOWN)


def _layers(scopes, model):
    """The layers that made a tensor, each as the path to it, by the tensor's name."""
    paths = [_path(scope, model) for scope in scopes.split(";")]  # Of operations made one.
    return [path for path in paths if path]


def _path(scope, model):
    """The layers that were called one inside the other when TensorFlow named an operation.

    Keras lets it name them after the layers. A number is added, since Keras enters a name twice.
    """
    path, inside = [], model
    for part in scope.split("/")[:-1]:
        name = re.sub(r"_\d+$", "", part)
        children = {layer.name: layer for layer in own_children(inside)}
        layer = children.get(name, children.get(part))
        if layer is not None:
            inside = layer
            path.append(layer)
    while path and path[0].name == model.name:  # The user's model inside that of the export.
        path.pop(0)
    return path
