"""Channels of convolutional networks: what they are, and that cut networks equal masked ones."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers, ops

import tfprune
from tests.convolutional import NETWORKS, network
from tests.models import assert_same, noise, outputs, randomize
from tfprune.rebuild.nothing_zero import NothingPruned

pytestmark = pytest.mark.sampled

IMAGES = noise(3, 8, 8, 3)


def silenced(model, choose):
    for structure in tfprune.find_structures(model):
        structure.scale(choose(structure).astype("float32"))


@pytest.mark.parametrize("name", NETWORKS)
@given(seed=st.integers(0, 1000))
def test_cut_equals_masked(name, seed):
    model = network(name, seed)
    draw = np.random.default_rng(seed)
    silenced(model, lambda s: draw.random(s.groups) < 0.6)
    small = tfprune.rebuild(model)
    assert_same(outputs(model, IMAGES), outputs(small, IMAGES))


@pytest.mark.parametrize("name", NETWORKS)
def test_all_that_is_silenced_leaves(name):
    model = network(name)
    before = tfprune.find_structures(model)
    silenced(model, lambda s: np.arange(s.groups) % 2 == 0)
    after = tfprune.find_structures(tfprune.rebuild(model))
    assert {s.name: s.groups for s in after} == {s.name: (s.groups + 1) // 2 for s in before}
    assert [s.kind for s in after] == [s.kind for s in before]


@pytest.mark.parametrize(
    "name, kinds",
    [
        ("plain", {"a": "channels", "b": "channels"}),
        ("residual", {"stem": "width", "one_in": "channels", "two_in": "channels"}),
        ("inverted", {"expand": "channels", "squeeze": "channels", "project": "channels"}),
        ("dense", {"one": "channels", "two": "channels", "three": "channels"}),
        ("odd", {"a": "channels", "separable": "channels", "transposed": "channels"}),
    ],
)
def test_what_is_found(name, kinds):
    found = tfprune.find_structures(network(name))
    assert {s.name: s.kind for s in found} == kinds
    assert {s.name for s in found.skipped} == {"head"}


@pytest.mark.parametrize("name", NETWORKS)
def test_chosen_channels_are_cut_and_the_model_loads_with_plain_keras(name, tmp_path):
    model = network(name)
    keep = {s.name: np.arange(s.groups) != 1 for s in tfprune.find_structures(model)}
    small = tfprune.rebuild(model, keep=keep)
    silenced(model, lambda s: keep[s.name])
    assert_same(outputs(model, IMAGES), outputs(small, IMAGES))
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    assert_same(outputs(small, IMAGES), outputs(loaded, IMAGES))
    assert not any("tfprune" in type(layer).__module__ for layer in small.layers)


@pytest.mark.parametrize("name", NETWORKS)
def test_cut_in_place(name, tmp_path):
    model = network(name)
    keep = {s.name: np.arange(s.groups) != 1 for s in tfprune.find_structures(model)}
    expected = outputs(tfprune.rebuild(model, keep=keep), IMAGES)
    assert tfprune.rebuild(model, keep=keep, in_place=True) is model
    assert_same(expected, outputs(model, IMAGES))
    model.save(tmp_path / "small.keras")
    assert_same(expected, outputs(keras.saving.load_model(tmp_path / "small.keras"), IMAGES))


def test_a_constant_moves_into_the_bias_behind_it_where_there_are_no_borders():
    model = network("plain")
    layer = model.get_layer("a")
    kernel, bias = np.array(layer.kernel), np.array(layer.bias)
    kernel[..., 2], bias[2] = 0, 0.7
    layer.kernel.assign(kernel)
    layer.bias.assign(bias)
    behind = model.get_layer("b")
    folded = np.asarray(behind.bias) + 0.7 * np.asarray(behind.kernel)[0, 0, 2]
    small = tfprune.rebuild(model)
    assert small.get_layer("a").filters == 5
    np.testing.assert_allclose(small.get_layer("b").bias, folded, rtol=1e-5)
    assert_same(outputs(model, IMAGES), outputs(small, IMAGES))


@pytest.mark.parametrize("padding, filters", [("valid", 3), ("same", 4)])
def test_a_constant_stays_where_padding_makes_borders(padding, filters):
    inputs = keras.Input((8, 8, 3))
    first = layers.Conv2D(4, 3, name="a")
    outs = layers.Conv2D(2, 3, padding=padding)(first(inputs))
    model = randomize(keras.Model(inputs, layers.GlobalAveragePooling2D()(outs)))
    kernel = np.array(first.kernel)
    kernel[..., 1] = 0
    first.kernel.assign(kernel)  # Its bias stays.
    small = tfprune.rebuild(model)
    assert small.get_layer("a").filters == filters
    assert_same(outputs(model, IMAGES), outputs(small, IMAGES))


def test_a_factor_of_zero_is_enough():
    """As network slimming leaves it: gamma and beta are zero, the kernel before them is not."""
    model = network("residual")
    norm = next(x for x in model.layers if isinstance(x, layers.BatchNormalization))
    inner = model.get_layer("one_in")
    norm = next(
        n for n in model.layers if getattr(n, "gamma", None) is not None and n.gamma.shape == (4,)
    )
    for variable in (norm.gamma, norm.beta):
        value = np.array(variable)
        value[1] = 0
        variable.assign(value)
    assert np.any(np.asarray(inner.kernel)[..., 1])
    small = tfprune.rebuild(model)
    assert small.get_layer("one_in").filters == 3
    assert_same(outputs(model, IMAGES), outputs(small, IMAGES))


def test_saturation_is_no_constant():
    """A channel that a rectifier never lets through on usual inputs is no constant."""
    model = network("inverted")
    norm = next(x for x in model.layers if isinstance(x, layers.BatchNormalization))
    norm.beta.assign(np.full(6, -100.0, "float32"))
    with pytest.warns(NothingPruned):
        small = tfprune.rebuild(model)
    assert small.get_layer("expand").filters == 6


@keras.saving.register_keras_serializable("tests_channels")
class Inverted(layers.Layer):
    """Layers that are called in a `call` of one's own; what it returns is as wide as its input."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.expand = layers.Conv2D(2 * filters, 1, use_bias=False, name="expand")
        self.normalize = layers.BatchNormalization(name="normalize")
        self.deep = layers.DepthwiseConv2D(3, padding="same", name="deep")
        self.project = layers.Conv2D(filters, 1, name="project")

    def build(self, shape):
        for layer in (self.expand, self.normalize, self.deep, self.project):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        super().build(shape)

    def call(self, x, training=None):
        y = ops.relu6(self.normalize(self.expand(x), training=training))
        return x + self.project(ops.relu6(self.deep(y)))

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


@keras.saving.register_keras_serializable("tests_channels")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.stem = layers.Conv2D(4, 3, name="stem")
        self.block = Inverted(4, name="block")
        self.head = layers.Dense(3, name="head")

    def call(self, x, training=None):
        return self.head(ops.mean(self.block(self.stem(x), training=training), axis=(1, 2)))


def functional_around():
    """What the block returns leaves the model."""
    inputs = keras.Input((8, 8, 3))
    outs = Inverted(4, name="block")(layers.Conv2D(4, 3, name="stem")(inputs))
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(outs))


def test_through_a_nested_model(tmp_path):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, name="last")(layers.Conv2D(4, 3, name="first")(inputs))
    backbone = keras.Model(inputs, layers.BatchNormalization()(x), name="backbone")
    head = [layers.GlobalAveragePooling2D(), layers.Dense(3, name="head")]
    model = randomize(keras.Sequential([keras.Input((8, 8, 3)), backbone, *head]))
    backbone.layers[-1].moving_variance.assign(np.ones(8))
    found = tfprune.find_structures(model)
    assert {s.name: (s.groups, s.crosses) for s in found} == {
        "backbone/first": (4, False),
        "backbone/last": (8, True),
    }
    silenced(model, lambda s: np.arange(s.groups) % 4 > 0)
    small = tfprune.rebuild(model)
    assert [layer.filters for layer in small.layers[0].layers[1:3]] == [3, 6]
    assert small.get_layer("head").kernel.shape == (6, 3)
    assert_same(outputs(model, IMAGES), outputs(small, IMAGES))
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    assert_same(outputs(model, IMAGES), outputs(loaded, IMAGES))


@pytest.mark.parametrize("make", [functional_around, Subclassed])
def test_in_a_call_of_ones_own(make, tmp_path):
    model = make()
    model(IMAGES)
    randomize(model)
    norm = model.get_layer("block").normalize
    norm.moving_variance.assign(0.5 + ops.abs(norm.moving_variance))
    found = tfprune.find_structures(model)
    kinds = {s.name: (s.kind, s.groups, s.crosses) for s in found}
    inner = {"block/expand": ("channels", 8, False)}
    around = {"stem": ("width", 4, True)}
    assert kinds == {**inner, **(around if make is Subclassed else {})}
    silenced(model, lambda s: np.arange(s.groups) % 2)
    small = tfprune.rebuild(model)
    assert small.get_layer("block").expand.filters == 4
    assert_same(outputs(model, IMAGES), outputs(small, IMAGES))
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    assert_same(outputs(model, IMAGES), outputs(loaded, IMAGES))


@pytest.mark.parametrize("target", [tfprune.Sparsity(0.5), tfprune.Flops(0.6)])
def test_pruned_without_training(target):
    model = network("residual")
    small = tfprune.prune(model, target, IMAGES, criterion="magnitude", verbose=0)
    assert small.count_params() < model.count_params()
    assert outputs(small, IMAGES)[0].shape == (3, 3)


def test_what_rides_is_not_listed_by_itself():
    inputs = keras.Input((8, 8, 3))
    x = layers.PReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, name="a")(inputs)))
    model = keras.Model(inputs, layers.Conv2D(2, 3, name="b")(x))
    found = tfprune.find_structures(model)
    assert [s.name for s in found] == ["a"] and [s.name for s in found.skipped] == ["b"]


def group_normalized(groups, make=lambda name: layers.Conv2D(8, 3, name=name), **options):
    inputs = keras.Input((6, 6, 3))
    y = layers.GroupNormalization(groups, **options)(make("before")(inputs))
    return randomize(keras.Model(inputs, make("after")(layers.ReLU()(y))))


@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}])
@pytest.mark.parametrize("groups", [2, 4, -1])
def test_groups_of_a_group_normalization_leave_whole(groups, options):
    model = group_normalized(groups, **options)
    (structure,) = tfprune.find_structures(model)
    assert structure.groups == (8 if groups == -1 else groups)
    keep = {structure.name: np.arange(structure.groups) % 2 == 0}
    structure.scale(keep[structure.name].astype("float32"))
    small = tfprune.rebuild(model, keep=keep)
    normalization = small.layers[2]
    assert (normalization.groups, small.get_layer("before").filters) == (structure.groups // 2, 4)
    x = noise(2, 6, 6, 3)
    assert_same(outputs(model, x), outputs(small, x))
    assert_same(outputs(model, x), outputs(tfprune.rebuild(model, in_place=True), x))


@pytest.mark.parametrize("options", [{"groups": 1}, {"groups": 4, "scale": False, "center": False}])
def test_channels_that_are_normalized_together_stay(options):
    structures = tfprune.find_structures(group_normalized(**options))
    assert not len(structures)
    assert "normalizes all together" in structures.skipped[0].reason


def reshaped(target):
    inputs = keras.Input((6, 6, 3))
    branches = [layers.Conv2D(4, 1, name=name)(inputs) for name in ("one", "other")]
    y = layers.Concatenate()([*branches, layers.Conv2D(2, 1, name="third")(inputs)])
    if target is None:
        y = layers.Reshape((1, 1, 10))(layers.GlobalAveragePooling2D()(y))
    else:
        y = layers.Reshape(target)(y)
    return randomize(keras.Model(inputs, layers.Dense(2, name="after")(y)))


@pytest.mark.parametrize("target", [None, (36, 10), (36, -1), (2, 18, 10), (-1, 10)])
def test_a_reshape_of_channels_of_several_layers(target, tmp_path):
    model = reshaped(target)
    structures = tfprune.find_structures(model)
    assert [s.name for s in structures] == ["one", "other", "third"]
    keep = {s.name: np.arange(s.groups) < n for s, n in zip(structures, (1, 3, 2), strict=True)}
    for structure in structures:
        structure.scale(keep[structure.name].astype("float32"))
    small = tfprune.rebuild(model, keep=keep)
    small.save(tmp_path / "small.keras")
    x = noise(2, 6, 6, 3)
    assert_same(outputs(model, x), outputs(small, x))
    assert_same(outputs(small, x), outputs(keras.saving.load_model(tmp_path / "small.keras"), x))
    assert_same(outputs(model, x), outputs(tfprune.rebuild(model, in_place=True), x))


def test_what_one_layer_makes_for_several_others_stays_also_beside_what_must_stay():
    inputs = keras.Input((6, 6, 2))
    branches = [layers.Conv2D(2, 1, name=name)(inputs) for name in ("one", "other")]
    joined = layers.Concatenate()([inputs, *branches])
    factors = layers.Conv2D(6, 1, activation="sigmoid", name="factors")(joined)
    y = layers.Multiply()([joined, factors])
    model = randomize(keras.Model(inputs, layers.Dense(2, name="after")(y)))
    structures = tfprune.find_structures(model)
    assert "factors" not in {s.layer.name for t in structures for s in t.producers}
    assert "different ways" in next(s.reason for s in structures.skipped if s.name == "factors")
