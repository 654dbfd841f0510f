"""Units whose weights a layer holds itself, in layers that nobody has registered."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.models import assert_same, kill, noise, outputs, randomize
from tfprune.rebuild import rebuild
from tfprune.structures import find_structures

pytestmark = pytest.mark.sampled

X = noise(3, 5, 6)


@keras.saving.register_keras_serializable("tests.own_weights")
class Bank(layers.Layer):
    """Experts with gated units: each position goes to one of them."""

    def __init__(self, experts=3, units=8, fused=False, **kwargs):
        super().__init__(**kwargs)
        self.experts, self.units, self.fused = experts, units, fused

    def build(self, shape):
        width, parts = shape[-1], 2 if self.fused else 1
        self.router = self.add_weight(shape=(width, self.experts), name="router")
        self._up = self.add_weight(shape=(self.experts, width, parts * self.units), name="up")
        self.bias = self.add_weight(shape=(self.experts, 1, parts * self.units), name="bias")
        self._down = self.add_weight(shape=(self.experts, self.units, width), name="down")

    def call(self, x):
        share = ops.one_hot(ops.argmax(ops.matmul(x, self.router), -1), self.experts)
        up = ops.einsum("btd,edf->ebtf", x, self._up) + self.bias[:, None]
        if self.fused:
            gate, up = ops.split(up, 2, axis=-1)
            up = up * ops.silu(gate)
        return ops.einsum("ebtf,efd,bte->btd", ops.relu(up), self._down, share)

    def get_config(self):
        own = {"experts": self.experts, "units": self.units, "fused": self.fused}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("tests.own_weights")
class Normalized(Bank):
    """Its units are normalized together."""

    def call(self, x):
        up = ops.einsum("btd,edf->ebtf", x, self._up) + self.bias[:, None]
        return ops.einsum(
            "ebtf,efd->btd", up / ops.sum(up, axis=(0, -1), keepdims=True), self._down
        )


def around(layer):
    x = keras.Input((5, 6))
    return randomize(keras.Model(x, layers.Dense(2)(x + layer(x))))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("in_place", [False, True])
def test_a_bank_of_experts(fused, in_place, tmp_path):
    model = around(Bank(fused=fused, name="bank"))
    units = find_structures(model)["bank"]
    assert (units.kind, units.groups, units.least) == ("ffn", 8, 1)
    segments = (8, 8) if fused else None
    assert {(s.attribute, s.axis, s.segments, s.role) for s in units.slices} == {
        ("up", 2, segments, "producer"),
        ("bias", 2, segments, "producer"),
        ("down", 1, None, "consumer"),
    }
    kill(model, lambda s: np.arange(s.groups) % 3 == 0)
    expected = outputs(model, X)
    small = rebuild(model, in_place=in_place)
    bank = small.get_layer("bank")
    assert bank._down.shape == (3, 5, 6) and bank.units == 5
    assert_same(expected, outputs(small, X))
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    assert_same(expected, outputs(loaded, X))
    assert find_structures(loaded)["bank"].groups == 5
    kill(small, lambda s: np.ones(s.groups, bool))
    expected = outputs(small, X)
    small = rebuild(small, in_place=in_place)
    assert_same(expected, outputs(small, X))
    assert small.get_layer("bank").units == 1
    small.save(tmp_path / "small.keras")
    assert_same(expected, outputs(keras.saving.load_model(tmp_path / "small.keras"), X))


def test_what_makes_them_alone_silences_no_unit():
    model = around(Bank(name="bank"))
    bank = model.get_layer("bank")
    bank._up.assign(np.zeros(bank._up.shape))
    assert rebuild(model).get_layer("bank").units == 8


def test_units_that_are_mixed_stay():
    found = find_structures(around(Normalized(name="bank")))
    assert "bank" not in found
    assert ("bank", "no kind of structure is registered for Normalized") in [
        (s.name, s.reason) for s in found.skipped
    ]
