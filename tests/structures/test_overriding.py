"""A subclass that computes something else than its base class is not cut as that."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfprune
from tests.models import assert_same, kill, noise, outputs, randomize
from tfprune.structures import find_structures
from tfprune.structures.overriding import overridden


class Centred(layers.Dense):
    def call(self, inputs):
        units = super().call(inputs)
        return units - ops.mean(units, axis=-1, keepdims=True)


class Unit(layers.Dense):
    @property
    def kernel(self):
        kernel = self._kernel
        return kernel / ops.sqrt(ops.sum(ops.square(kernel), axis=-1, keepdims=True))


class TalkingHeads(layers.MultiHeadAttention):
    def _compute_attention(self, query, *args, **kwargs):
        return super()._compute_attention(query[:, :, ::-1], *args, **kwargs)


class Named(layers.Dense):
    """Says only how it is made."""

    def __init__(self, units, label="", **kwargs):
        super().__init__(units, **kwargs)
        self.label = label

    def build(self, shape):
        super().build(shape)

    def get_config(self):
        return {**super().get_config(), "label": self.label}

    def describe(self):
        return self.label


def model_with(first, attention=layers.MultiHeadAttention):
    inputs = keras.Input((3, 8))
    x = inputs + attention(2, 4, name="attention")(inputs, inputs)
    y = layers.Dense(8, name="out")(first(6, name="in")(x))
    return randomize(keras.Model(inputs, x + y))


@pytest.mark.parametrize(
    "first, attention, skipped, name",
    [
        (Centred, layers.MultiHeadAttention, "in", "call"),
        (Unit, layers.MultiHeadAttention, "in", "kernel"),
        (Named, TalkingHeads, "attention", "_compute_attention"),
    ],
)
def test_it_is_skipped_with_the_reason(first, attention, skipped, name):
    model = model_with(first, attention)
    found = find_structures(model)
    assert {s.name for s in found} == {"attention", "in"} - {skipped}
    (reason,) = [s.reason for s in found.skipped if s.name == skipped]
    assert f"overrides `{name}`" in reason
    kill(model, lambda s: np.arange(s.groups) > 0)
    x = noise(2, 3, 8)
    small = tfprune.rebuild(model)
    assert_same(outputs(model, x), outputs(small, x))
    assert small.count_params() < model.count_params()


def test_a_subclass_that_computes_the_same_is_cut():
    model = model_with(Named)
    assert {s.name for s in find_structures(model)} == {"attention", "in"}
    kill(model, lambda s: np.arange(s.groups) > 1)
    small = tfprune.rebuild(model)
    assert type(small.get_layer("in")) is Named and small.get_layer("in").units == 2
    assert_same(outputs(model, noise(2, 3, 8)), outputs(small, noise(2, 3, 8)))


def test_a_class_between_counts_and_the_class_itself_does_not():
    class Below(Centred):
        pass

    assert overridden(Below, layers.Dense) == "call"
    assert overridden(Below, Centred) is None
    assert overridden(layers.Dense, layers.Dense) is None


def test_attention_of_keras_hub():
    keras_hub = pytest.importorskip("keras_hub")
    moonshine = pytest.importorskip(
        "keras_hub.src.models.moonshine.moonshine_multi_head_attention"
    ).MoonshineMultiHeadAttention
    inputs = keras.Input((3, 8))
    decoder = keras_hub.layers.TransformerDecoder(12, 2)(inputs)  # Its attention has a cache.
    assert find_structures(keras.Model(inputs, decoder)).kinds == ("heads", "ffn")
    assert overridden(moonshine, layers.MultiHeadAttention) is not None
