"""Sizes and places in calls: written anew in the graph of a Functional model."""

import sys

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfprune
from tests.models import assert_same, noise, outputs, randomize
from tfprune.structures.flow import Flow
from tfprune.structures.flow.written import rewritten
from tfprune.structures.graph import graph_of

pytestmark = pytest.mark.sampled("jax")

# What may stand between two convolutions, the first with 6 channels.
BETWEEN = {
    "sizes": lambda x: ops.reshape(x, (-1, 8, 8, 6)),
    "all sizes but one": lambda x: ops.reshape(x, (-1, 4, 16, 6)),
    "places": lambda x: ops.concatenate([x[..., 2:], x[..., :2]], axis=-1),
    "places from the end": lambda x: ops.concatenate([x[..., -2:], x[..., :-2]], axis=-1),
    "places of whole axes": lambda x: x[:, 1:, :, 0:6],
    "a gate": lambda x: x[..., :3] * ops.sigmoid(x[..., 3:]),
    "a gate of every other": lambda x: x[..., ::2] * ops.sigmoid(x[..., 1::2]),
    "a gate at indices": lambda x: ops.multiply(*ops.split(x, [3], axis=-1)),
    "three parts": lambda x: sum(ops.split(x, [2, 4], axis=-1)),
    "factors": lambda x: x * ops.reshape(ops.mean(x, axis=(1, 2)), (-1, 1, 1, 6)),
}


class InACall(keras.Model):
    """The same in the `call` of a class, where nothing can be written anew."""

    def __init__(self, between):
        super().__init__()
        self.between = between
        self.first, self.last = layers.Conv2D(6, 1, name="a"), layers.Conv2D(2, 3, name="last")

    def call(self, x):
        return self.last(self.between(self.first(x)))


def functional(between):
    x = keras.Input((8, 8, 3))
    y = layers.Conv2D(2, 3, name="last")(between(layers.Conv2D(6, 1, name="a")(x)))
    return randomize(keras.Model(x, y))


def some_go(model):
    """The structures, with every other group zero, and the outputs then."""
    structures = tfprune.find_structures(model)
    for structure in structures:
        structure.scale((np.arange(structure.groups) % 2).astype("float32"))
    return structures, outputs(model, noise(2, 8, 8, 3))


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("between", BETWEEN.values(), ids=BETWEEN)
def test_cut_exactly(between, in_place, tmp_path):
    model = functional(between)
    structures, expected = some_go(model)
    assert [s.name for s in structures] == ["a"]
    small = tfprune.rebuild(model, in_place=in_place)
    assert small.get_layer("a").filters < 6
    assert_same(expected, outputs(small, noise(2, 8, 8, 3)))
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    assert_same(expected, outputs(loaded, noise(2, 8, 8, 3)))


@pytest.mark.parametrize("what", ["sizes", "places", "a gate", "a gate at indices", "factors"])
def test_what_a_class_computes_stays(what):
    model = InACall(BETWEEN[what])
    model(noise(1, 8, 8, 3))
    structures = tfprune.find_structures(model)
    assert not structures
    (reason,) = [s.reason for s in structures.skipped if s.name == "a"]
    assert reason.endswith("has sizes or places written in it")


# The same, with sizes and places that follow from the shape.
FOLLOWING = {
    "sizes": lambda x: ops.reshape(x, (-1, 8, 8, x.shape[-1])),
    "the batch too": lambda x: ops.reshape(x, (ops.shape(x)[0], 8, 8, x.shape[-1])),
    "a gate": lambda x: x[..., : x.shape[-1] // 2] * ops.sigmoid(x[..., x.shape[-1] // 2 :]),
    "a gate at indices": lambda x: ops.multiply(*ops.split(x, [x.shape[-1] // 2], axis=-1)),
    "factors": lambda x: x * ops.reshape(ops.mean(x, axis=(1, 2)), (-1, 1, 1, x.shape[-1])),
    "rows as tokens": lambda x: ops.reshape(
        layers.Identity()(ops.reshape(x, (-1, 64, x.shape[-1]))), (-1, 8, 8, x.shape[-1])
    ),
    "shuffle": lambda x: ops.reshape(
        ops.transpose(ops.reshape(x, (-1, 8, 8, 2, x.shape[-1] // 2)), (0, 1, 2, 4, 3)),
        (-1, 8, 8, x.shape[-1]),
    ),
}


@keras.saving.register_keras_serializable("tests")
class Following(layers.Layer):
    """Two convolutions of which the second reads what is worked out from the shape of the first."""

    def __init__(self, what="sizes", groups=1, **kwargs):
        super().__init__(**kwargs)
        self.what = what
        self.first = layers.Conv2D(6, 1, groups=groups, name="a")
        self.norm = layers.BatchNormalization(name="norm")
        self.last = layers.Conv2D(2, 3, name="last")

    def build(self, shape):
        self.first.build(shape)
        self.norm.build((*shape[:-1], 6))
        self.last.build((*shape[:-1], 3 if "gate" in self.what else 6))

    def call(self, x):
        return self.last(FOLLOWING[self.what](self.norm(self.first(x))))

    def get_config(self):
        return {**super().get_config(), "what": self.what}


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("what", FOLLOWING)
def test_what_follows_from_the_shape(what, in_place, tmp_path):
    x = keras.Input((8, 8, 3))
    model = randomize(keras.Model(x, Following(what, name="f")(x)))
    norm = model.get_layer("f").norm
    norm.moving_variance.assign(0.5 + ops.abs(norm.moving_variance))
    structures, expected = some_go(model)
    assert [(s.kind, s.name) for s in structures] == [("channels", "f/a")]
    small = tfprune.rebuild(model, in_place=in_place)
    assert small.get_layer("f").first.filters < 6
    assert_same(expected, outputs(small, noise(2, 8, 8, 3)))
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    assert_same(expected, outputs(loaded, noise(2, 8, 8, 3)))


def test_an_interrupted_cut_leaves_the_model_as_it_was(monkeypatch):
    model = functional(BETWEEN["a gate"])
    _, expected = some_go(model)
    config = model.get_config()

    def fail(*args):
        raise KeyboardInterrupt

    module = sys.modules["tfprune.rebuild.in_place"]
    monkeypatch.setattr(module, "refresh_graphs", fail)
    with pytest.raises(KeyboardInterrupt):
        tfprune.rebuild(model, in_place=True)
    assert_same(expected, outputs(model, noise(2, 8, 8, 3)))
    assert model.get_config() == config


def test_channels_of_several_layers_in_one_call():
    x = keras.Input((4, 4, 3))
    joined = ops.concatenate([layers.Conv2D(n, 1, name=f"c{n}")(x) for n in (4, 6)], axis=-1)
    flat = ops.reshape(joined, (-1, 4 * 4, 10))
    y = [layers.Dense(2)(flat[..., :4]), layers.Dense(2)(flat[..., 4:])]
    model = randomize(keras.Model(x, y))
    flow = Flow(graph_of(model))
    gone = np.concatenate([family.classes[:1] for family in flow.families])
    changes = [changes for _, changes in flow.rewritten(gone)]
    assert changes[0] == {"newshape": (-1, 16, 8)}  # One of the 4 and one of the 6 have gone.
    assert {"key": (Ellipsis, slice(None, 3))} in changes[1:]
    assert {"key": (Ellipsis, slice(3, None))} in changes[1:]
    x = noise(2, 4, 4, 3)
    for structure in tfprune.find_structures(model):
        structure.scale((np.arange(structure.groups) > 0).astype("float32"))
    expected = outputs(model, x)
    assert_same(expected, outputs(tfprune.rebuild(model), x))


def test_a_model_inside_a_layer(tmp_path):
    @keras.saving.register_keras_serializable("tests")
    class Around(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.inner = functional(BETWEEN["factors"])

        def call(self, x):
            return self.inner(x) + 1.0

    x = keras.Input((8, 8, 3))
    model = randomize(keras.Model(x, Around(name="around")(x)))
    structures, expected = some_go(model)
    assert [s.name.split("/")[0] for s in structures] == ["around"]
    for small in (tfprune.rebuild(model), tfprune.rebuild(model, in_place=True)):
        assert small.count_params() < 200
        assert_same(expected, outputs(small, noise(2, 8, 8, 3)))
        small.save(tmp_path / "small.keras")
        loaded = keras.saving.load_model(tmp_path / "small.keras")
        assert_same(expected, outputs(loaded, noise(2, 8, 8, 3)))


def test_a_model_that_is_called_twice():
    inner = functional(BETWEEN["factors"])
    x, z = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    model = keras.Model([x, z], [inner(x), inner(z)])
    structures = tfprune.find_structures(model)
    structures[0].scale((np.arange(6) % 2).astype("float32"))
    given = [noise(2, 8, 8, 3), noise(2, 8, 8, 3)]
    small = tfprune.rebuild(model)
    assert small.count_params() < model.count_params()
    assert_same(outputs(model, given), outputs(small, given))


def test_what_two_layers_make_is_given_to_one_call():
    """One of them stays whole: it would be told two sizes."""
    call = layers.Reshape((64, 6))
    x = keras.Input((8, 8, 3))
    y = [layers.Dense(3)(call(layers.Conv2D(6, 1, name=name)(x))) for name in "ab"]
    structures = tfprune.find_structures(keras.Model(x, y))
    assert len(structures) == 1


def test_nothing_changes_where_nothing_is_written():
    x = keras.Input((8, 8, 3))
    y = ops.reshape(layers.Conv2D(6, 1)(x), (-1, 64, 6))
    flow = Flow(graph_of(keras.Model(x, layers.Dense(2)(y[:, ::2, :]))))
    sliced = next(n for n in flow.graph.nodes if type(n.operation).__name__ == "GetItem")
    assert rewritten(flow, sliced, flow.families[0].classes[:2]) == {}


@keras.saving.register_keras_serializable("tests")
class Backbone(keras.Model):
    """A Functional model that is made from numbers, as KerasHub's are."""

    def __init__(self, filters=6, **kwargs):
        x = keras.Input((8, 8, 3))
        y = layers.Conv2D(filters, 1, name="a")(x)
        y = ops.reshape(y, (-1, 64, filters))
        gate, y = y[..., : filters // 2], y[..., filters // 2 :]
        super().__init__(x, layers.Dense(2, name="last")(gate * y), **kwargs)
        self.filters = filters

    def get_config(self):
        return {"filters": self.filters, "name": self.name}


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("outer", [False, True])
def test_a_model_that_keeps_its_cuts(outer, in_place, tmp_path):
    model = randomize(Backbone())
    if outer:
        x = keras.Input((8, 8, 3))
        model = keras.Model(x, layers.Dense(2)(model(x)))
    _, expected = some_go(model)
    before = model.count_params()
    small = tfprune.rebuild(model, in_place=in_place)
    assert small.count_params() < before
    assert_same(expected, outputs(small, noise(2, 8, 8, 3)))
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    assert_same(expected, outputs(loaded, noise(2, 8, 8, 3)))
    if not outer:
        again = Backbone.from_config(Backbone().get_config())  # The class is as it was.
        assert again.count_params() == before
