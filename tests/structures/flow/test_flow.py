"""Which positions leave together, for one network of each way of joining channels."""

import re

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfprune
from tfprune.structures.flow import Flow
from tfprune.structures.graph import graph_of

pytestmark = pytest.mark.sampled("jax")


def flow_through(function, shape=(8, 8, 3)):
    inputs = keras.Input(shape)
    return Flow(graph_of(keras.Model(inputs, function(inputs))))


def owners(family):
    """Where each group has its positions: by layer and attribute, axis, role, group of each."""
    return {
        (use.layer.name, use.attribute): (use.axis, use.role, owner.tolist())
        for use, owner in family.owners
    }


def conv(filters, name, size=3, **options):
    return layers.Conv2D(filters, size, padding="same", name=name, **options)


def test_a_chain():
    flow = flow_through(lambda x: conv(5, "b")(layers.ReLU()(conv(4, "a")(x))))
    (family,) = flow.families
    each = list(range(4))
    assert (family.groups, family.is_joined) == (4, False)
    assert owners(family) == {
        ("a", "kernel"): (3, "make", each),
        ("a", "bias"): (0, "ride", each),
        ("b", "kernel"): (2, "read", each),
    }
    reasons = {use.layer.name: flow.reason(use) for use in flow.uses if use.role == "make"}
    assert reasons == {"a": None, "b": "its output is an output of the model"}


def test_what_rides():
    def network(x):
        y = layers.BatchNormalization(name="norm", scale=False)(conv(4, "a", use_bias=False)(x))
        y = layers.DepthwiseConv2D(3, depth_multiplier=2, name="deep")(layers.PReLU(name="p")(y))
        return conv(2, "b")(y)

    (family,) = flow_through(network).families
    each, twice = list(range(4)), np.repeat(np.arange(4), 2).tolist()
    assert owners(family) == {
        ("a", "kernel"): (3, "make", each),
        ("norm", "beta"): (0, "ride", each),
        ("norm", "moving_mean"): (0, "statistic", each),
        ("norm", "moving_variance"): (0, "statistic", each),
        ("p", "alpha"): (2, "ride", each),
        ("deep", "kernel"): (2, "ride", each),
        ("deep", "bias"): (0, "ride", twice),
        ("b", "kernel"): (2, "read", twice),
    }


def test_an_addition_joins():
    def network(x):
        x = conv(4, "stem")(x)
        return conv(2, "head")(layers.Add()([x, conv(4, "out")(conv(6, "in")(x))]))

    inner, width = sorted(flow_through(network).families, key=lambda f: -f.groups)
    assert not inner.is_joined and width.is_joined
    assert {use.layer.name: use.role for use, _ in width.owners if use.attribute == "kernel"} == {
        "stem": "make",
        "out": "make",
        "in": "read",
        "head": "read",
    }


def test_a_concatenation_has_several_families():
    def network(x):
        joined = layers.Concatenate()([conv(3, "a")(x), x, conv(2, "b")(x)])
        return conv(2, "head")(layers.BatchNormalization(name="norm")(joined))

    first, second = flow_through(network).families
    assert owners(first)["head", "kernel"] == (2, "read", [0, 1, 2, -1, -1, -1, -1, -1])
    assert owners(second)["head", "kernel"] == (2, "read", [-1] * 6 + [0, 1])
    assert owners(second)["norm", "gamma"] == (0, "ride", [-1] * 6 + [0, 1])


def test_flatten_repeats_channels():
    def network(x):
        return layers.Dense(2, name="head")(layers.Flatten()(conv(3, "a")(x)))

    (family,) = flow_through(network, (2, 2, 1)).families
    assert owners(family)["head", "kernel"] == (0, "read", [0, 1, 2] * 4)


def test_squeeze_and_excite():
    def network(x):
        x = conv(4, "a")(x)
        s = layers.Reshape((1, 1, 4))(layers.GlobalAveragePooling2D()(x))
        s = conv(4, "excite", 1, activation="sigmoid")(conv(2, "squeeze", 1)(s))
        return conv(2, "head")(layers.Multiply()([x, s]))

    squeeze, channels = sorted(flow_through(network).families, key=lambda f: f.groups)
    assert squeeze.groups == 2
    assert {use.layer.name for use, _ in channels.owners} == {"a", "excite", "squeeze", "head"}
    assert not channels.is_joined


def test_groups_of_a_convolution_leave_whole():
    def network(x):
        return conv(2, "head")(conv(6, "grouped", groups=2)(conv(4, "a")(x)))

    (family,) = flow_through(network).families
    found = owners(family)
    assert found["a", "kernel"] == (3, "make", [0, 0, 1, 1])
    assert found["grouped", "kernel"] == (3, "make", [0, 0, 0, 1, 1, 1])
    assert found["head", "kernel"] == (2, "read", [0, 0, 0, 1, 1, 1])


def test_each_group_of_a_convolution_loses_as_many():
    x = keras.Input((8, 8, 3))
    y = conv(2, "head")(conv(6, "grouped", groups=2)(conv(4, "a")(x)))
    first, second = Flow(graph_of(keras.Model(x, y)), choice=1).families
    assert owners(first)["a", "kernel"] == (3, "make", [0, 1, 0, 1])
    assert owners(first)["grouped", "kernel"] == (2, "read", [0, 1])
    assert owners(second)["grouped", "kernel"] == (3, "make", [0, 1, 2, 0, 1, 2])
    assert owners(second)["head", "kernel"] == (2, "read", [0, 1, 2, 0, 1, 2])


def test_separable_and_transposed():
    def network(x):
        x = layers.SeparableConv2D(4, 3, depth_multiplier=2, name="s")(conv(3, "a")(x))
        return conv(2, "head")(layers.Conv2DTranspose(5, 3, name="t")(x))

    first, second, third = flow_through(network).families
    assert owners(first)["s", "depthwise_kernel"] == (2, "ride", [0, 1, 2])
    assert owners(first)["s", "pointwise_kernel"] == (2, "read", [0, 0, 1, 1, 2, 2])
    assert owners(second)["t", "kernel"] == (3, "read", [0, 1, 2, 3])
    assert owners(third)["t", "kernel"] == (2, "make", [0, 1, 2, 3, 4])


@pytest.mark.parametrize(
    "between, reason",
    [
        (layers.LayerNormalization(), r"it goes to layer_normalization\w* \(LayerNormalization\)"),
        (
            layers.DepthwiseConv2D(3, padding="same", activation="softmax"),
            "its activation softmax mixes channels",
        ),
        (layers.Softmax(), r"it goes to softmax\w* \(Softmax\)"),
        (lambda x: ops.mean(x, axis=-1, keepdims=True), "Mean mixes it"),
        (lambda x: ops.concatenate([x, x], axis=1)[:, :8], None),
        (lambda x: ops.roll(x, 1, axis=-1), r"it goes to Roll"),
        (lambda x: x * np.arange(4, dtype="float32"), "Multiply joins it with what must stay"),
    ],
)
def test_what_keeps_channels(between, reason):
    def network(x):
        y = between(conv(4, "a")(x))
        return conv(2, "head")(y) if y.shape[1:-1] == (8, 8) else ops.mean(y, axis=(1, 2))

    flow = flow_through(network)
    (use,) = [use for use in flow.uses if use.layer.name == "a" and use.role == "make"]
    found = flow.reason(use)
    if reason is None:
        assert found is None and len(flow.families) == 1
    else:
        assert found is not None and re.search(reason, found)


def test_what_is_called_twice_has_one_family():
    shared = conv(3, "shared")

    def network(x):
        return conv(2, "head")(shared(conv(3, "a")(shared(conv(3, "b")(x)))))

    families = {
        tuple(sorted({u.layer.name for u, _ in f.owners})) for f in flow_through(network).families
    }
    assert families == {("a", "b", "shared"), ("a", "head", "shared")}


@pytest.mark.parametrize(
    "layer",
    [layers.Cropping2D(12), layers.MaxPooling2D(20), layers.AveragePooling2D(20, padding="same")],
    ids=lambda layer: type(layer).__name__,
)
def test_windows_that_are_large(layer):
    inputs = keras.Input((40, 40, 3))
    y = layer(layers.Conv2D(4, 1, name="before")(inputs))
    model = keras.Model(inputs, layers.Conv2D(2, 1)(y))
    assert [s.name for s in tfprune.find_structures(model)] == ["before"]
