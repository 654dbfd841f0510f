"""Channels of grouped convolutions: groups leave whole, or each loses as many as the others."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfprune
from tests.models import assert_same, noise, outputs, randomize

pytestmark = pytest.mark.sampled("jax")

IMAGES = noise(3, 6, 6, 4)


def shuffled(x, groups):
    _, height, width, channels = x.shape
    x = ops.reshape(x, (-1, height, width, groups, channels // groups))
    return ops.reshape(ops.transpose(x, (0, 1, 2, 4, 3)), (-1, height, width, channels))


def shuffle_net(x):
    """Two grouped convolutions with a shuffle and a depthwise one between."""
    y = layers.Conv2D(16, 1, groups=2, name="a", activation="relu")(x)
    y = layers.DepthwiseConv2D(3, padding="same", name="deep")(shuffled(y, 2))
    return layers.Conv2D(6, 1, groups=2, name="b")(layers.BatchNormalization(name="norm")(y))


def behind_what_stays(x):
    return layers.Conv2D(12, 3, groups=4, name="a", padding="same")(x)


def many_groups(x):
    """As in ResNeXt: the fewer channels a group has, the finer are whole groups."""
    y = layers.Conv2D(16, 1, name="a", activation="relu")(x)
    return layers.Conv2D(16, 3, groups=8, name="grouped", padding="same")(y)


def network(make):
    x = keras.Input((6, 6, 4))
    y = layers.GlobalAveragePooling2D()(make(x))
    model = randomize(keras.Model(x, layers.Dense(2, name="head")(y)))
    for variable in model.variables:
        if variable.name == "moving_variance":
            variable.assign(0.5 + ops.abs(variable))
    return model


@pytest.mark.parametrize(
    "make, groups",
    [
        (shuffle_net, {"a": 4, "b": 3}),  # Of the 16, those that meet in both groups of b.
        (behind_what_stays, {"a": 3}),
        (many_groups, {"a": 8}),
    ],
)
@pytest.mark.parametrize("in_place", [False, True])
def test_cut_exactly(make, groups, in_place, tmp_path):
    model = network(make)
    structures = tfprune.find_structures(model)
    assert {s.name: s.groups for s in structures} == groups
    for structure in structures:
        structure.scale((np.arange(structure.groups) % 2).astype("float32"))
    expected = outputs(model, IMAGES)
    before = model.count_params()
    small = tfprune.rebuild(model, in_place=in_place)
    assert small.count_params() < before
    assert_same(expected, outputs(small, IMAGES))
    small.save(tmp_path / "small.keras")
    assert_same(expected, outputs(keras.saving.load_model(tmp_path / "small.keras"), IMAGES))
    again = {s.name: s.groups for s in tfprune.find_structures(small)}
    assert again == {name: count // 2 for name, count in groups.items() if name in again}
    assert again or groups == {"a": 3}  # Of which one is left, which stays.


def test_what_a_layer_reads_and_makes_is_chosen_apart():
    model = network(shuffle_net)
    small = tfprune.rebuild(model, keep={"a": np.arange(4) < 3, "b": np.array([True, False, True])})
    last = small.get_layer("b")
    assert (small.get_layer("a").filters, small.get_layer("a").groups) == (12, 2)
    assert (last.filters, last.groups, last.kernel.shape) == (4, 2, (1, 1, 6, 4))


@pytest.mark.parametrize("in_place", [False, True])
def test_each_group_reads_what_several_layers_make(in_place):
    """As one layer makes the first channels of each group and another one the others."""
    x = keras.Input((6, 6, 4))
    a, b = (layers.Conv2D(8, 1, name=name)(x) for name in "ab")
    both = layers.Concatenate()([ops.split(y, 2, axis=-1)[i] for i in (0, 1) for y in (a, b)])
    y = layers.Conv2D(6, 3, groups=2, name="c")(both)
    model = randomize(keras.Model(x, layers.Dense(2)(layers.GlobalAveragePooling2D()(y))))
    structures = tfprune.find_structures(model)
    assert {s.name: s.groups for s in structures} == {"a": 4, "b": 4, "c": 3}
    for structure in structures:
        structure.scale((np.arange(structure.groups) % 2).astype("float32"))
    expected = outputs(model, IMAGES)
    small = tfprune.rebuild(model, in_place=in_place)
    assert small.get_layer("c").kernel.shape == (3, 3, 4, 2)
    assert_same(expected, outputs(small, IMAGES))
