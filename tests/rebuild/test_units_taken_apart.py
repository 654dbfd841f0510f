"""Units of which one kernel makes several numbers, such as a gate and what it gates."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.models import assert_same, kill, noise, outputs, randomize
from tfprune.gates import MovementScores, attach, detach
from tfprune.rebuild import rebuild
from tfprune.structures import find_structures

pytestmark = pytest.mark.sampled

X = noise(3, 5, 4)


class Gated(layers.Layer):
    """A gated feed-forward layer with one kernel, taken apart in one of several ways."""

    def __init__(self, way="sections", **kwargs):
        super().__init__(**kwargs)
        self.way = way
        self.units = 6
        self.both, self.down = layers.Dense(12, name="both"), layers.Dense(4, name="down")

    def build(self, shape):
        self.both.build(shape)
        self.down.build((*shape[:-1], 6))

    def call(self, x):
        y = self.both(x)
        if self.way == "sections":
            gate, up = ops.split(y, 2, axis=-1)
        elif self.way == "half":
            half = y.shape[-1] // 2
            gate, up = y[..., :half], y[:, :, half:]
        elif self.way == "indices":
            gate, up = ops.split(y, [ops.shape(y)[-1] // 2], axis=-1)
        else:
            gate, up = y[..., : self.units], y[..., self.units :]
        return self.down(ops.silu(gate) * up)

    def get_config(self):
        return {**super().get_config(), "way": self.way}


def functional(way="sections"):
    x = keras.Input((None, 4))
    y = layers.LayerNormalization()(Gated(way, name="ffn")(x))
    return randomize(keras.Model(x, layers.Dense(2, name="out")(y)))


def plain(split=lambda y: ops.split(y, 2, axis=-1), use_bias=True, parts=2):
    x = keras.Input((None, 4))
    y = split(layers.Dense(6 * parts, use_bias=use_bias, name="both")(x))
    up = y[1]
    for part in y[2:]:
        up = up + part
    y = layers.Dense(4, name="down")(layers.Activation("silu")(y[0]) * up)
    return randomize(keras.Model(x, y))


@pytest.mark.parametrize("producers_only", [False, True])
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        functional,
        lambda: functional("half"),
        lambda: functional("indices"),
        plain,
        lambda: plain(use_bias=False),
        lambda: plain(lambda y: ops.split(y, 3, axis=2), parts=3),
    ],
)
def test_cut_exactly(make, in_place, producers_only, tmp_path):
    model = make()
    (found,) = find_structures(model)
    assert (found.kind, found.groups) == ("ffn", 6)
    assert found.name in ("ffn/both", "both")
    kill(model, lambda s: np.arange(6) % 3 == 0, producers_only=producers_only)
    expected = outputs(model, X)
    small = rebuild(model, in_place=in_place)
    assert_same(expected, outputs(small, X))
    (left,) = find_structures(small)
    assert left.groups == 4
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras", custom_objects={"Gated": Gated})
    assert_same(expected, outputs(loaded, X))
    kill(loaded, lambda s: np.ones(s.groups, bool))
    assert_same(outputs(loaded, X), outputs(rebuild(loaded), X))  # One unit is left, as zeros.


def test_a_gate_from_another_layer():
    x = keras.Input((4,))
    first, second = ops.split(layers.Dense(12, name="both")(x), 2, axis=-1)
    y = first * second * layers.Dense(6, "sigmoid", name="gate")(x)
    model = randomize(keras.Model(x, layers.Dense(2, name="down")(y)))
    (found,) = find_structures(model)
    owners = {s.layer.name: s.owners(6).tolist() for s in found.producers}
    assert owners == {"both": [*range(6), *range(6)], "gate": [*range(6)]}
    kill(model, lambda s: np.arange(6) < 4)
    given = noise(3, 4)
    assert_same(outputs(model, given), outputs(rebuild(model), given))


@pytest.mark.parametrize(
    "split",
    [lambda y: (y[..., :6], y[..., 6:]), lambda y: ops.split(y, [6], axis=-1)],
)
def test_places_in_a_functional_model(split):
    model = plain(split)
    (found,) = find_structures(model)
    assert (found.kind, found.name, found.groups) == ("ffn", "both", 6)
    kill(model, lambda s: np.arange(6) < 4)
    assert_same(outputs(model, X), outputs(rebuild(model), X))


def test_places_from_a_number_keep_the_units():
    found = find_structures(functional("number"))
    assert not len(found)
    (reason,) = [s.reason for s in found.skipped if s.name == "ffn/both"]
    assert reason == "GetItem has sizes or places written in it"


@pytest.mark.parametrize(
    "split",
    [
        lambda y: (y[..., :4], y[..., 4:8]),
        lambda y: (y[..., :3], y[..., 3:6], y[..., 6:9]),
        lambda y: (y[..., 1:6], y[..., 6:11]),
    ],
)
def test_other_parts(split):
    x = keras.Input((None, 4))
    first, second, *_ = split(layers.Dense(12, name="both")(x))
    model = keras.Model(x, layers.Dense(2, name="down")(first * second))
    found = find_structures(model)
    assert not len(found)
    (reason,) = (s.reason for s in found.skipped if s.name == "both")
    assert reason == "its outputs go different ways"


def test_the_whole_is_read_too():
    x = keras.Input((4,))
    y = layers.Dense(12, name="both")(x)
    first, second = ops.split(y, 2, axis=-1)
    model = keras.Model(x, [layers.Dense(2)(first * second), layers.Dense(2, name="all")(y)])
    randomize(model)
    (found,) = find_structures(model)
    assert [s.layer.name for s in found.consumers if s.layer.name == "all"]
    kill(model, lambda s: np.arange(6) < 4)
    given = noise(3, 4)
    assert_same(outputs(model, given), outputs(rebuild(model), given))


def test_gates_over_both_parts():
    model = functional()
    (gate,) = attach(model, [MovementScores(s) for s in find_structures(model)])
    gate.scores.assign(np.arange(6) % 2)
    gate.threshold.assign(0.5)
    expected = outputs(model, X)
    small = rebuild(model)
    assert_same(expected, outputs(small, X))
    assert find_structures(small)[0].groups == 3
    detach(model)
    assert not np.allclose(expected[0], outputs(model, X)[0])


def test_a_part_may_hold_the_units_of_another_layer_alone():
    x = keras.Input((4,))
    pair = [layers.Dense(3, "tanh", name=name)(x) for name in ("one", "other")]
    first, second = ops.split(layers.Concatenate()(pair), 2, axis=-1)
    y = layers.ReLU()(ops.concatenate([second, first], axis=-1))
    model = randomize(keras.Model(x, layers.Dense(2, name="out")(y)))
    structures = find_structures(model)
    assert [(s.name, s.groups) for s in structures] == [("one", 3), ("other", 3)]
    for structure in structures:
        structure.scale(np.array([0, 1, 0], "float32"))
    expected = outputs(model, noise(3, 4))
    small = rebuild(model)
    assert small.get_layer("out").kernel.shape == (2, 2)
    assert_same(expected, outputs(small, noise(3, 4)))
