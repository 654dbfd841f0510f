"""The commuting test, `op(x)[kept] == op(x[kept])`, for each class that has a rule.

Layers with weights are cut by `rebuild` here, since their weights lose positions as well.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfprune
from tests.models import assert_same, noise, outputs, randomize
from tfprune.keras_private.functional import call_with
from tfprune.structures.flow import Flow
from tfprune.structures.flow.recurrent import flow_recurrent
from tfprune.structures.flow.rules import _RULES
from tfprune.structures.flow.running import run
from tfprune.structures.flow.written import can_be_rewritten, rewritten
from tfprune.structures.graph import graph_of
from tfprune.structures.recurrent import CELLS

pytestmark = pytest.mark.sampled("jax")

LAYERS = {cls for cls in _RULES if issubclass(cls, keras.Layer)}
OPERATIONS = set(_RULES) - LAYERS
WEIGHTED = {
    layers.Dense: lambda: layers.Dense(5),
    layers.EinsumDense: lambda: layers.EinsumDense("abcd,de->abce", (None, None, 5), bias_axes="e"),
    layers.Conv1D: lambda: layers.Conv1D(5, 3),
    layers.Conv2D: lambda: layers.Conv2D(6, 3, groups=2),
    layers.Conv3D: lambda: layers.Conv3D(5, 2),
    layers.Conv1DTranspose: lambda: layers.Conv1DTranspose(5, 3, 2),
    layers.Conv2DTranspose: lambda: layers.Conv2DTranspose(5, 3, 2),
    layers.Conv3DTranspose: lambda: layers.Conv3DTranspose(5, 2),
    layers.SeparableConv1D: lambda: layers.SeparableConv1D(5, 3),
    layers.SeparableConv2D: lambda: layers.SeparableConv2D(5, 3, depth_multiplier=2),
    layers.DepthwiseConv1D: lambda: layers.DepthwiseConv1D(3, depth_multiplier=2),
    layers.DepthwiseConv2D: lambda: layers.DepthwiseConv2D(3, 2),
    layers.BatchNormalization: lambda: layers.BatchNormalization(),
    layers.GroupNormalization: lambda: layers.GroupNormalization(2),
    layers.PReLU: lambda: layers.PReLU(shared_axes=[1]),
    layers.LSTM: lambda: layers.LSTM(5, return_sequences=True),
    layers.GRU: lambda: layers.GRU(5, return_sequences=True),
    layers.SimpleRNN: lambda: layers.SimpleRNN(5, return_sequences=True),
    layers.Bidirectional: lambda: layers.Bidirectional(layers.GRU(5, return_sequences=True)),
}
# What other layers are made with.
OPTIONS = {
    layers.Activation: {"activation": "tanh"},
    layers.Lambda: {"function": ops.tanh},
    layers.Rescaling: {"scale": 0.5, "offset": 1.0},
    layers.Permute: {"dims": (3, 1, 2)},
    layers.Reshape: {"target_shape": (-1, 4)},
    **{cls: {"rate": 0.1} for cls in LAYERS if "Dropout" in cls.__name__},
    **{cls: {"pool_size": 2} for cls in LAYERS if cls.__name__.startswith("AveragePooling")},
    layers.GaussianNoise: {"stddev": 0.1},
}
# How other operations are called: by default on one tensor, and two where they join.
CALLS = {
    "Clip": lambda x, y: ops.clip(x, -0.5, 0.5),
    "Cast": lambda x, y: ops.cast(x, "float16"),
    "Threshold": lambda x, y: ops.threshold(x, 0.1, -1.0),
    "AveragePool": lambda x, y: ops.average_pool(x, 2, 2),
    "MaxPool": lambda x, y: ops.max_pool(x, 2, 2),
    "Concatenate": lambda x, y: ops.concatenate([x, y], axis=-1),
    "Einsum": lambda x, y: ops.einsum("bhwc,bhvc->bhwvc", x, y),
    "ExpandDims": lambda x, y: ops.expand_dims(x, 2),
    "Glu": lambda x, y: ops.glu(x),
    "GetItem": lambda x, y: x[:, ::2, 1:],
    "Matmul": lambda x, y: ops.matmul(ops.moveaxis(x, -1, 1), ops.moveaxis(y, -1, 1)),
    "Max": lambda x, y: ops.max(x, axis=(1, 2)),
    "Mean": lambda x, y: ops.mean(x, axis=1, keepdims=True),
    "Moveaxis": lambda x, y: ops.moveaxis(x, -1, 1),
    "Pad": lambda x, y: ops.pad(x, [[0, 0], [1, 1], [0, 0], [0, 0]]),
    "Reshape": lambda x, y: ops.reshape(x, (-1, 36, 4)),
    "Split": lambda x, y: ops.split(x, 2, axis=1)[0],
    "Squeeze": lambda x, y: ops.squeeze(ops.max(x, axis=1, keepdims=True), 1),
    "SwapAxes": lambda x, y: ops.swapaxes(x, 1, 3),
    "Transpose": lambda x, y: ops.transpose(x, (0, 3, 1, 2)),
}
JOIN = {"Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Maximum", "Minimum", "Power"}
JOIN_LAYERS = {"Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"}


def name(cls):
    return f"{'layer' if cls in LAYERS else 'operation'}-{cls.__name__}"


def made_of(cls, x, y):
    """What the class makes of one tensor, or of two."""
    if cls in OPERATIONS:
        if cls.__name__ in CALLS:
            return CALLS[cls.__name__](x, y)
        return cls()(x, y) if cls.__name__ in JOIN else cls()(x)
    layer = cls(**OPTIONS.get(cls, {}))
    return layer([x, y]) if cls.__name__ in JOIN_LAYERS else layer(x)


def rank_of(cls):
    if _RULES[cls] is flow_recurrent:
        return 1
    return next((rank for rank in (1, 2, 3) if f"{rank}D" in cls.__name__), 2)


def convolution(rank, **options):
    return (layers.Conv1D, layers.Conv2D, layers.Conv3D)[rank - 1](4, 1, **options)


def without(flow, tensor, value, gone):
    for axis, labels in enumerate(flow.labels(tensor)):
        if labels is not None:
            value = np.take(value, np.flatnonzero(~np.isin(flow.classes.of(labels), gone)), axis)
    return value


@pytest.mark.parametrize(
    "cls", sorted(set(_RULES) - set(WEIGHTED) - set(CELLS), key=name), ids=name
)
def test_what_has_no_weights(cls):
    rank = rank_of(cls)
    inputs = keras.Input((6,) * rank + (3,))
    model = keras.Model(inputs, made_of(cls, convolution(rank)(inputs), convolution(rank)(inputs)))
    flow = Flow(graph_of(model))
    node = next(n for n in flow.graph.nodes if type(n.operation) is cls)
    labels = [x for t in node.input_tensors for x in flow.labels(t) if x is not None]
    gone = np.unique(flow.classes.of(np.concatenate(labels)))[1::2]
    draw = np.random.default_rng(0)
    whole = {id(t): draw.uniform(0.1, 2.0, (2, *t.shape[1:])) for t in node.input_tensors}
    whole = {key: value.astype("float32") for key, value in whole.items()}
    left = {id(t): without(flow, t, whole[id(t)], gone) for t in node.input_tensors}
    changes = rewritten(flow, node, gone) if can_be_rewritten(flow, node) else {}
    smaller = run(node, left, *call_with(node, changes))
    for tensor, expected, found in zip(node.outputs, run(node, whole), smaller, strict=True):
        assert any(x is not None for x in flow.labels(tensor))
        np.testing.assert_allclose(found, without(flow, tensor, expected, gone), rtol=1e-6)
        assert found.size < expected.size


@pytest.mark.parametrize("cls", sorted(WEIGHTED, key=name), ids=name)
def test_what_has_weights(cls):
    rank = rank_of(cls)
    inputs = keras.Input((6,) * rank + (3,))
    y = WEIGHTED[cls]()(convolution(rank, name="before")(inputs))
    model = randomize(keras.Model(inputs, convolution(rank, name="after")(y)))
    for variable in model.variables:
        if variable.name == "moving_variance":
            variable.assign(0.5 + ops.abs(variable))
    structures = tfprune.find_structures(model)
    read = {id(layer) for s in structures for layer in s.layers()}
    assert {id(x) for x in model.layers if x.weights} <= read  # Nothing stays for want of a rule.
    keep = {s.name: np.arange(s.groups) % 2 == 0 for s in structures}
    for structure in structures:
        structure.scale(keep[structure.name].astype("float32"))
    x = noise(2, *(6,) * rank, 3)
    small = tfprune.rebuild(model, keep=keep)
    assert_same(outputs(model, x), outputs(small, x))
    assert small.count_params() < model.count_params()


def test_there_is_a_case_for_each_layer_with_weights():
    assert {cls for cls in LAYERS if rule_needs_weights(cls)} == {*WEIGHTED, *CELLS}


def rule_needs_weights(cls):
    return _RULES[cls].__module__.rpartition(".")[2] in ("contractions", "recurrent", "riding")
