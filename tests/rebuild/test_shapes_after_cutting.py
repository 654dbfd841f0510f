"""What keeps shapes agrees with the variables once layers in a layer were cut."""

import keras
import numpy as np
import pytest
from keras import layers

import tfprune
from tests.models import assert_same, kill, noise, outputs, randomize
from tfprune.rebuild import rebuild
from tfprune.structures import find_structures

pytestmark = pytest.mark.sampled


@keras.saving.register_keras_serializable("test_shapes_after_cutting")
class Block(layers.Layer):
    """Holds a model that is called in its own call."""

    def __init__(self, kind="sequential", **kwargs):
        super().__init__(**kwargs)
        self.kind = kind
        if kind == "functional":
            x = keras.Input((4,))
            y = layers.Dense(12, name="first")(x)
            y = keras.ops.relu(layers.Dropout(0.1)(y))
            self.inner = keras.Model(x, layers.Dense(4, name="second")(y))
        else:
            parts = [
                layers.Dense(12, "relu", name="first"),
                layers.Dropout(0.1),
                layers.Activation("tanh"),
                layers.Dense(4, name="second"),
            ]
            self.inner = keras.Sequential(parts)
        if kind == "nested":
            self.inner = keras.Sequential([self.inner, layers.Activation("tanh")])

    def build(self, shape):
        if self.kind != "functional":
            self.inner.build(shape)
        self.built = True

    def call(self, x):
        return x + self.inner(x)

    def get_config(self):
        return {**super().get_config(), "kind": self.kind}


def shapes_in(model):
    """The widths of the symbolic tensors behind dense layers, and what their kernels say."""
    found = []
    for layer in model._flatten_layers():
        if isinstance(layer, layers.Dense):
            widths = {node.outputs[0].shape[-1] for node in layer._inbound_nodes}
            found.append((layer.name, widths, layer.kernel.shape[-1]))
    return found


@pytest.mark.parametrize("kind", ["sequential", "functional", "nested"])
@pytest.mark.parametrize("where", ["layer", "model"])
def test_a_model_in_a_layer(kind, where, tmp_path):
    x = keras.Input((4,))
    y = Block(kind)(x)
    if where == "model":
        y = keras.Sequential([keras.Input((4,)), Block(kind)])(y)
    model = randomize(keras.Model(x, layers.Dense(1, name="out")(y)))
    kill(model, lambda s: np.arange(s.groups) < 5)
    small = rebuild(model)
    assert_same(outputs(model, noise(2, 4)), outputs(small, noise(2, 4)))
    small.save(tmp_path / "small.keras")
    for again in (small, keras.saving.load_model(tmp_path / "small.keras")):
        assert {s.groups for s in find_structures(again)} == {7}
        assert all(widths == {width} for _, widths, width in shapes_in(again))
        kill(again, lambda s: np.arange(s.groups) < 3, producers_only=True)
        smaller = rebuild(again)
        assert {s.groups for s in find_structures(smaller)} == {4}
        assert_same(outputs(again, noise(2, 4)), outputs(smaller, noise(2, 4)))
        kill(smaller, lambda s: np.ones(s.groups, bool), producers_only=True)
        none = rebuild(smaller)
        assert not len(find_structures(none))
        assert_same(outputs(smaller, noise(2, 4)), outputs(none, noise(2, 4)))


def test_a_comparison_of_what_was_cut(tmp_path):
    x = keras.Input((4,))
    model = randomize(keras.Model(x, layers.Dense(1, name="out")(Block()(x))))
    kill(model, lambda s: np.arange(s.groups) < 5)
    small = rebuild(model)
    result = tfprune.compare(model, small, latency=False)
    assert list(result.survivors.values()) == [(7, 12)]
    result.plot(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size
