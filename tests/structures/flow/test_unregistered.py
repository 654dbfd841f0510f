"""Layers that no rule is for, between layers whose channels or units can leave."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfprune
from tests.models import assert_same, noise, outputs, randomize


class HardSwish(layers.Layer):
    def call(self, x):
        return x * ops.relu6(x + 3) / 6


class Scale(layers.Layer):
    def build(self, shape):
        self.gamma = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, x):
        return x * self.gamma


class SizedScale(layers.Layer):
    """Is told how many channels there are."""

    def __init__(self, dim, **kwargs):
        super().__init__(**kwargs)
        self.dim = dim
        self.gamma = self.add_weight(shape=(1, dim), initializer="ones")

    def call(self, x):
        return x * self.gamma

    def get_config(self):
        return {**super().get_config(), "dim": self.dim}


class ResponseNormalization(layers.Layer):
    """By the size of each channel in the whole picture, without division by their mean."""

    def build(self, shape):
        self.gamma = self.add_weight(shape=(shape[-1],), initializer="ones")
        self.beta = self.add_weight(shape=(shape[-1],), initializer="zeros")

    def call(self, x):
        axes = tuple(range(1, len(x.shape) - 1))
        size = ops.sqrt(ops.sum(ops.square(x), axis=axes, keepdims=True))
        return x * (1 + self.gamma * size) + self.beta


class Standardization(layers.Layer):
    """By numbers that are not trained."""

    def build(self, shape):
        self.mean = self.add_weight(shape=(shape[-1],), initializer="zeros", trainable=False)
        self.variance = self.add_weight(shape=(shape[-1],), initializer="ones", trainable=False)

    def call(self, x):
        return (x - self.mean) / ops.sqrt(self.variance + 1e-3)


class WeightedSum(layers.Layer):
    def build(self, shapes):
        self.weight = self.add_weight(shape=(shapes[0][-1],), initializer="ones")

    def call(self, inputs):
        return inputs[0] + self.weight * inputs[1]


class Centred(layers.Layer):
    def call(self, x):
        return x - ops.mean(x, axis=-1, keepdims=True)


class Shortened(layers.Layer):
    """Mixes channels where they are large; none does among small numbers."""

    def call(self, x):
        length = ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True))
        return x * ops.minimum(1.0, 50.0 / (length + 1e-6))


class Fades(layers.Layer):
    """Has another factor for each place along the channels, which no weight says."""

    def call(self, x):
        return x * ops.arange(1, x.shape[-1] + 1, dtype="float32")


class Divided(layers.Layer):
    def build(self, shape):
        self.size = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, x):
        return x / self.size


CARRY = {
    "activation": HardSwish,
    "factors": Scale,
    "factors_counted_in_the_configuration": lambda: SizedScale(8),
    "normalization": ResponseNormalization,
    "statistics": Standardization,
    "keras_group_normalization_of_one_channel": lambda: layers.GroupNormalization(-1),
}
MIX = {
    "mean": Centred,
    "large_numbers": Shortened,
    "places": Fades,
    "infinite_without_weight": Divided,
    "keras_layer_normalization": layers.LayerNormalization,
    "keras_group_normalization": lambda: layers.GroupNormalization(4),
}


def network(between, make=lambda: layers.Conv2D(8, 3, name="before"), shape=(6, 6, 3)):
    inputs = keras.Input(shape)
    y = between(make()(inputs))
    return positive(randomize(keras.Model(inputs, layers.Dense(4, name="after")(y))))


def positive(model):
    for variable in model.variables:
        if variable.name == "variance":
            variable.assign(0.5 + ops.abs(variable))
    return model


def halved(model, *shape):
    """Rebuilds without every second group, and compares with the model in which they are zero."""
    structures = tfprune.find_structures(model)
    keep = {s.name: np.arange(s.groups) % 2 == 0 for s in structures}
    for structure in structures:
        structure.scale(keep[structure.name].astype("float32"))
    small = tfprune.rebuild(model, keep=keep)
    x = noise(2, *shape)
    assert_same(outputs(model, x), outputs(small, x))
    assert small.count_params() < model.count_params()
    return small


@pytest.mark.parametrize("between", CARRY.values(), ids=CARRY)
def test_channels_pass_what_treats_each_of_them_alone(between, tmp_path):
    model = network(between())
    structures = tfprune.find_structures(model)
    assert [(s.name, s.groups) for s in structures] == [("before", 8)]
    of_layer = {v.path for x in model.layers[2:3] for v in x.variables}
    assert of_layer <= {s.variable.path for s in structures[0].slices}
    small = halved(model, 6, 6, 3)
    small.save(tmp_path / "small.keras")
    custom = {cls.__name__: cls for cls in layers.Layer.__subclasses__()}
    loaded = keras.saving.load_model(tmp_path / "small.keras", custom_objects=custom)
    x = noise(2, 6, 6, 3)
    assert_same(outputs(small, x), outputs(loaded, x))


@pytest.mark.parametrize("between", MIX.values(), ids=MIX)
def test_channels_that_are_mixed_stay(between):
    structures = tfprune.find_structures(network(between()))
    assert not len(structures)
    assert "it goes to" in structures.skipped[0].reason


def test_two_inputs_are_joined():
    inputs = keras.Input((6, 6, 3))
    x, y = (layers.Conv2D(8, 3, name=name)(inputs) for name in ("one", "other"))
    model = randomize(keras.Model(inputs, layers.Dense(4)(WeightedSum()([x, y]))))
    (structure,) = tfprune.find_structures(model)
    assert {s.layer.name for s in structure.producers} == {"one", "other", "weighted_sum"}
    halved(model, 6, 6, 3)


def test_what_must_stay_keeps_what_is_joined_with_it():
    inputs = keras.Input((6, 6, 8))
    y = WeightedSum()([layers.Conv2D(8, 3, padding="same", name="conv")(inputs), inputs])
    structures = tfprune.find_structures(keras.Model(inputs, layers.Dense(4)(y)))
    assert not len(structures)
    assert "with what must stay" in structures.skipped[0].reason


@pytest.mark.parametrize(
    "between", [HardSwish, Scale, layers.BatchNormalization, layers.PReLU], ids=lambda x: x.__name__
)
def test_units_of_dense_layers(between):
    make = lambda: layers.Dense(16, name="before")  # noqa: E731
    model = network(between(), make, (5,))
    structures = tfprune.find_structures(model)
    assert [(s.name, s.kind, s.groups) for s in structures] == [("before", "ffn", 16)]
    assert [s.name for s in structures.skipped] == ["after"]
    halved(model, 5)


def test_a_silent_channel_emits_what_the_layer_makes_of_zero():
    model = network(ResponseNormalization())
    kernel, bias = model.get_layer("before").kernel, model.get_layer("before").bias
    kernel.assign(kernel * (np.arange(8) > 2))
    bias.assign(bias * (np.arange(8) > 1))
    before = outputs(model, noise(2, 6, 6, 3))
    small = tfprune.rebuild(model)
    # The third emits what the layer makes of its bias, which moves into the bias behind.
    assert small.get_layer("before").filters == 5
    assert_same(before, outputs(small, noise(2, 6, 6, 3)))


def test_trained_with_group_lasso():
    from tfprune.callbacks import GroupLasso

    model = network(Scale(), lambda: layers.Dense(16, name="before"), (5,))
    model.compile("adam", "mse")
    x, y = noise(32, 5), noise(32, 4)
    callback = GroupLasso(target=tfprune.Sparsity(0.5), verbose=0)
    model.fit(x, y, epochs=2, verbose=0, callbacks=[callback])
    small = tfprune.rebuild(model)
    assert small.get_layer("before").units == 8
    assert_same(outputs(model, x), outputs(small, x))


def test_a_layer_that_two_models_call_stays():
    shared = Scale(name="shared")

    def inner(name):
        return keras.Sequential(
            [layers.Conv2D(8, 3, name=f"{name}_in"), shared, layers.Conv2D(4, 3)], name=name
        )

    inputs = keras.Input((9, 9, 3))
    y = layers.Add()([inner("one")(inputs), inner("other")(inputs)])
    structures = tfprune.find_structures(keras.Model(inputs, layers.Dense(2)(y)))
    assert "one/one_in" not in structures and "other/other_in" not in structures
    assert "in more than one model" in next(
        s.reason for s in structures.skipped if s.name == "one/one_in"
    )
