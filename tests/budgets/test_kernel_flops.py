import sys

import numpy as np
import pytest

import tfprune
from tests.convolutional import NETWORKS, network
from tests.models import randomize, transformer
from tfprune.budgets.kernel_flops import kernel_flops
from tfprune.budgets.targets import Flops

pytestmark = pytest.mark.sampled("jax")


@pytest.mark.parametrize("name", NETWORKS)
def test_of_channels_they_are_those_of_the_rebuilt_model(name, monkeypatch):
    model = network(name)
    structures = tfprune.find_structures(model)
    with monkeypatch.context() as patch:  # No model is built for each of fifty layers.
        patch.setattr(sys.modules["tfprune.rebuild.rebuilding"], "rebuild", None)
        cost = Flops(0.5).cost(model, structures)
    keep = {s.name: np.arange(s.groups) < max(1, s.groups // 2) for s in structures}
    flops = tfprune.count_flops(tfprune.rebuild(model, keep=keep))
    left = {name: int(mask.sum()) for name, mask in keep.items()}
    assert cost(left) == pytest.approx(flops / tfprune.count_flops(model), rel=1e-9)


def test_of_units_they_are_twice_the_positions():
    model = randomize(transformer(width=16, units=64))
    units = tfprune.find_structures(model).select("ffn")
    with kernel_flops(units) as of_weight:
        tfprune.count_flops(model, sequence_length=10)
    assert of_weight(units[0].slices[0].variable) == 20
    assert of_weight(units[0].slices[1].variable) == 0  # A bias.


def test_a_layer_that_is_called_twice_counts_twice():
    import keras

    x = keras.Input((7, 4))
    shared = keras.layers.Dense(6, "relu", name="shared")
    end = keras.layers.Dense(2, name="end")
    model = keras.Model(x, keras.layers.Add()([end(shared(x)), end(shared(-x))]))
    structures = tfprune.find_structures(model)
    with kernel_flops(structures) as of_weight:
        total = tfprune.count_flops(model)
    assert of_weight(shared.kernel) == 2 * 7 * 2
    assert total == of_weight(shared.kernel) * 24 + of_weight(end.kernel) * 12


@pytest.mark.parametrize("filters", [False, True])
def test_kernels_of_layers_that_nobody_described_are_counted_by_rebuilding(filters):
    import keras
    from keras import layers, ops

    class Filter(layers.Layer):
        """A depthwise convolution of the user's own."""

        def build(self, shape):
            self.kernel = self.add_weight(shape=(3, 3, shape[-1], 1))

        def call(self, x):
            return ops.depthwise_conv(x, self.kernel, padding="same")

    class Factor(layers.Layer):
        """Calls a factor for each channel a kernel."""

        def build(self, shape):
            self.kernel = self.add_weight(shape=(shape[-1],))

        def call(self, x):
            return x * self.kernel

    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(12, 3, name="conv")])
    for layer in (Factor(), Filter() if filters else layers.ReLU(), layers.Dense(2)):
        model.add(layer)
    structures = tfprune.find_structures(model)
    assert [s.name for s in structures] == ["conv"]
    cost = Flops(0.5).cost(model, structures)
    small = tfprune.rebuild(model, keep={"conv": np.arange(12) < 6})
    expected = tfprune.count_flops(small) / tfprune.count_flops(model)
    assert cost({"conv": 6}) == pytest.approx(expected, rel=1e-9)
