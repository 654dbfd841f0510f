"""Which operations work on each unit by itself, so that units before and after are the same."""

from __future__ import annotations

from functools import cache

import keras
from keras import layers

from tfprune.keras_private.functional import operation_classes
from tfprune.structures.graph import Untraceable, trace
from tfprune.structures.locality import treats_each_number_alone

# Those that at inference return what they are given.
IDENTITIES = (
    layers.Dropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.AlphaDropout,
    layers.Identity,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
)

_LAYERS = (
    *IDENTITIES,
    layers.ReLU,
    layers.LeakyReLU,
    layers.ELU,
    layers.Add,
    layers.Subtract,
    layers.Multiply,
    layers.Average,
    layers.Maximum,
    layers.Minimum,
)

# fmt: off
_OPERATION_NAMES = (
    "Relu", "Relu6", "Sigmoid", "SparseSigmoid", "Softplus", "Softsign", "SoftShrink",
    "SparsePlus", "Silu", "Squareplus", "LogSigmoid", "LeakyRelu", "HardSigmoid", "HardSilu",
    "Elu", "Selu", "Gelu", "Celu", "TanhShrink", "HardTanh", "HardShrink", "Threshold",
    "Absolute", "Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Maximum", "Minimum",
    "Power", "Square", "Sqrt", "Rsqrt", "Exp", "Expm1", "Log", "Log1p", "Tanh", "Sin", "Cos",
    "Erf", "Negative", "Sign", "Clip", "Cast", "StopGradient", "Copy", "Reciprocal", "Arctan",
    "ReLU", "Mish",
)
# fmt: on
_OPERATIONS = operation_classes(_OPERATION_NAMES)
_ADDITIONS = operation_classes(["Add"])


def known_elementwise() -> tuple[type, ...]:
    """The classes of layers and operations that are known to treat each number alone."""
    return (*_LAYERS, *_OPERATIONS)


def is_elementwise(operation) -> bool:
    """Whether an operation treats each unit of its inputs alone, at inference.

    Args:
        operation: A Keras layer or operation, as found in a node.

    Returns:
        `True` only where that is known for certain.
    """
    if isinstance(operation, layers.Activation):
        return is_elementwise_function(operation.activation)
    if type(operation) is layers.Lambda:
        return _keeps_shapes(operation) and treats_each_number_alone(function_of(operation))
    if isinstance(operation, keras.Layer):
        return type(operation) in _LAYERS
    return type(operation) in _OPERATIONS


def is_add(operation) -> bool:
    """Whether an operation adds its inputs."""
    return type(operation) is layers.Add or type(operation) in _ADDITIONS


def is_identity(operation) -> bool:
    """Whether an operation returns its input as it is, at inference."""
    return type(operation) in IDENTITIES


def function_of(operation):
    """The function that an `Activation` or a `Lambda` is at inference; `None` for others."""
    if isinstance(operation, layers.Activation):
        return operation.activation
    if isinstance(operation, layers.Lambda):
        return lambda x: operation.call(x, training=False)
    return None


def _keeps_shapes(layer: keras.layers.Lambda) -> bool:
    """Whether a `Lambda` says that its output is as wide as its input, whatever that is."""
    shapes = ((None, 3), (None, 2, 5))
    try:
        return all(tuple(layer.compute_output_shape(shape)) == shape for shape in shapes)
    except Exception:  # Whatever user code raises.
        return False


class _Call(keras.Layer):
    """Lends a function the shape of a layer, so that it can be traced."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)


def is_elementwise_function(function) -> bool:
    """Whether an activation function treats each unit alone, and all alike.

    The function is called on a symbolic tensor, so lambdas and compositions of Keras's operations
    are seen through; what cannot be seen through, or is made of others, is tried with numbers.
    """
    if function is None:
        return True
    if getattr(function, "__module__", "").startswith("keras."):
        return _is_elementwise_in_keras(function)
    return _is_made_of_elementwise(function) or treats_each_number_alone(function)


@cache
def _is_elementwise_in_keras(function) -> bool:
    """As `is_elementwise_function`; a network calls the same few functions hundreds of times."""
    return _is_made_of_elementwise(function) or treats_each_number_alone(function)


def _is_made_of_elementwise(function) -> bool:
    x = keras.KerasTensor((None, 3))
    try:
        graph = trace(_Call(function), (x,))
    except Untraceable:
        return False
    return all(
        is_elementwise(node.operation)
        and all(len(t.shape) == 0 or t.shape == x.shape for t in node.input_tensors)
        and not has_array_arguments(node)
        for node in graph.nodes
    )


def has_array_arguments(node) -> bool:
    """Whether a call mixes in an array or a variable that is not one single number."""
    symbolic = {id(t) for t in node.input_tensors}
    values = keras.tree.flatten([node.arguments.args, node.arguments.kwargs])
    return any(id(v) not in symbolic and len(getattr(v, "shape", ())) > 0 for v in values)
