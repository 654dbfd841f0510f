"""What the layers of a model are given when it runs, for layers whose graph cannot be traced."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import wraps
from typing import Any

import keras
from keras import tree

from tfprune import native_messages
from tfprune.keras_private.functional import mask_of
from tfprune.keras_private.layers import inner_layers, own_variables
from tfprune.keras_private.methods import replaced
from tfprune.keras_private.tracing import give_mask
from tfprune.structures.made_up import TRIES, made_up_inputs

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class Running:
    """The arguments of layers in one run of a model on made-up inputs.

    The model is run when it is asked for the first time.

    Args:
        model: A built model. It is left as it is.
    """

    def __init__(self, model: keras.Layer):
        self._model = model
        self._arguments: dict[int, Arguments] | None = None

    def arguments(self, layer: keras.Layer) -> Arguments | None:
        """What a layer that has weights, or layers inside, is given when it is called first.

        Args:
            layer: A layer inside the model.

        Returns:
            Arrays and whatever else it is given, by place and by name; `None` if the model cannot
            be run, or does not call the layer.
        """
        if self._arguments is None:
            self._arguments = self._run()
        return self._arguments.get(id(layer))

    def _run(self) -> dict[int, Arguments]:
        model = self._model
        for tried in TRIES:
            found: dict[int, Arguments] = {}
            watched = [x for x in inner_layers(model) if inner_layers(x) or own_variables(x)]
            with (
                native_messages.filtered(),
                ExitStack() as stack,
                suppress(Exception),
            ):  # Whatever layers that cannot read it raise.
                for layer in watched:
                    noting = _noting(layer, layer.call, found)
                    stack.enter_context(replaced(layer, "call", noting))
                stack.enter_context(keras.StatelessScope())
                model(made_up_inputs(model, *tried), training=False)
                return found
        return {}


def _noting(layer, call: Callable, found: dict[int, Arguments]) -> Callable:
    @wraps(call)
    def noting(*args, **kwargs):
        found.setdefault(id(layer), (args, kwargs))
        return call(*args, **kwargs)

    return noting


def as_symbols(arguments: Arguments) -> Arguments:
    """Symbolic tensors of the shapes and types of arrays, with their masks.

    Args:
        arguments: What `Running.arguments` returns.
    """

    def symbol(x):
        if not keras.ops.is_tensor(x):
            return x
        made = keras.KerasTensor(tuple(x.shape), keras.backend.standardize_dtype(x.dtype))
        mask = mask_of(x)
        if mask is not None:
            give_mask(made, keras.KerasTensor(tuple(mask.shape), "bool"))
        return made

    return tree.map_structure(symbol, arguments)
