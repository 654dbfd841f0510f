"""What symbolic calls of layers need beyond what Keras allows: masks, and missing outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
from keras import tree
from keras.src import backend
from keras.src.ops.node import Node
from keras.src.ops.numpy import Einsum
from keras.src.utils.python_utils import is_default


def give_mask(tensor: keras.KerasTensor, mask: keras.KerasTensor) -> None:
    """Lets a symbolic tensor carry a Keras mask.

    Assumes: `set_keras_mask` does so, on symbolic tensors as on others.

    Args:
        tensor: The tensor.
        mask: Boolean, of the tensor's shape without the last axis.
    """
    backend.set_keras_mask(tensor, mask)


def run_abstractly(layer: keras.Layer, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Runs a layer's `call` on tensors of the backend without values; layers inside are built.

    So does Keras when it calls a layer on symbolic tensors. What calls TensorFlow or JAX itself can
    be run so, and not on symbolic tensors.

    Assumes: `compute_output_spec` of the backend runs a function so.

    Args:
        layer: The layer.
        args: Symbolic arguments.
        kwargs: Symbolic arguments by name.
    """
    backend.compute_output_spec(layer.call, *args, **kwargs)


@contextmanager
def all_letters() -> Iterator[None]:
    """Lets `ops.einsum` be called on symbolic tensors whatever letters its axes have.

    Keras finds the shape of the result by a string that it splits at letters, and fails on some
    equations with capital ones, such as those of Stable Diffusion 3 in KerasHub.

    Assumes: only `Einsum.compute_output_spec` does so; its `call` runs on tensors without values.
    """
    plain = Einsum.compute_output_spec

    def compute_output_spec(self, *operands):
        try:
            return plain(self, *operands)
        except ValueError:
            return backend.compute_output_spec(self.call, *operands)

    Einsum.compute_output_spec = compute_output_spec
    try:
        yield
    finally:
        Einsum.compute_output_spec = plain


@contextmanager
def missing_outputs() -> Iterator[None]:
    """Lets layers return `None` among symbolic tensors meanwhile.

    Many layers of KerasHub return a cache or attention scores that are `None` unless asked for.

    Assumes: only `Node.__init__` refuses them; it takes `outputs` by name or as its last argument.
    """
    plain = Node.__init__

    def init(self, operation, call_args=None, call_kwargs=None, outputs=None):
        outputs = [t for t in tree.flatten(outputs) if t is not None]
        plain(self, operation, call_args=call_args, call_kwargs=call_kwargs, outputs=outputs)

    Node.__init__ = init
    try:
        yield
    finally:
        Node.__init__ = plain


def own_output_shapes(layer: keras.Layer) -> bool:
    """Whether a layer says itself which shapes it returns, instead of being run to see.

    Assumes: `Layer.compute_output_spec` runs `call` where `compute_output_shape` is the default,
    which `is_default` tells.
    """
    own_spec = type(layer).compute_output_spec is not keras.Layer.compute_output_spec
    return own_spec or not is_default(layer.compute_output_shape)
