"""What a configuration does not say of a layer."""

import functools

import keras
import numpy as np
import pytest
from keras import layers

from tests.models import assert_same, kill, noise, outputs, randomize
from tfprune.rebuild import rebuild
from tfprune.rebuild.attributes import holds_layers, same

pytestmark = pytest.mark.sampled


class Times(layers.Layer):
    """Has a configuration that does not say by what it multiplies."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units, self.by, self.table = units, 1.0, np.ones(4, "float32")
        self.then = {"function": None, "bounds": (-9.0, 9.0)}

    def call(self, x):
        y = keras.ops.clip(x * self.by * self.table, *self.then["bounds"])
        return y if self.then["function"] is None else self.then["function"](y)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("test_attributes")
class Around(layers.Layer):
    """Holds two layers and a pair that is pruned, or not."""

    def __init__(self, pair=True, **kwargs):
        super().__init__(**kwargs)
        self.pair, self.inner = pair, Times(3)
        self.first, self.second = layers.Dense(6, "relu"), layers.Dense(4)
        self.share = 1.0

    def call(self, x):
        y = self.inner(x) * self.share
        return x + (self.second(self.first(y)) if self.pair else y)

    def get_config(self):
        return {**super().get_config(), "pair": self.pair}


def with_attribute(name, value):
    def change(layer):
        setattr(layer, name, value)
        return layer

    return change


def around(inside, share, pair):
    layer = Around(pair)
    layer.inner.by, layer.share = inside, share
    return layer


def gelu(x):
    """Of the same name as one of Keras."""
    return keras.ops.tanh(x) * 3


def late(layer, name, value):
    """A layer that is changed once it is built."""
    layer.build((None, 4))
    setattr(layer, name, value)
    return layer


def drawn(shape, dtype=None):
    return keras.ops.full(shape, 0.25, dtype=dtype)


UNTOUCHED = {
    "number": lambda: with_attribute("by", 5.0)(Times(3)),
    "array": lambda: with_attribute("table", np.arange(4, dtype="float32"))(Times(3)),
    "in a dictionary": lambda: with_attribute("then", {"function": gelu, "bounds": (-0.1, 0.2)})(
        Times(3)
    ),
    "once it is built": lambda: late(Times(3), "by", -2.0),
    "in a layer inside": lambda: around(3.0, 0.5, False),
    "in and around a pruned pair": lambda: around(3.0, 0.5, True),
    "Lambda of a lambda": lambda: layers.Lambda(lambda x: x * 2),
    "Lambda with arguments": lambda: layers.Lambda(lambda x, by: x * by, arguments={"by": 3.0}),
    "Lambda of a partial function": lambda: layers.Lambda(functools.partial(keras.ops.multiply, 2)),
    "lambda as activation": lambda: layers.Dense(4, lambda x: x * 2),
    "partial function": lambda: layers.Dense(4, functools.partial(gelu)),
    "activation with the name of another": lambda: layers.Dense(4, gelu),
    "activation changed": lambda: late(layers.Dense(4, "relu"), "activation", gelu),
    "function as initializer": lambda: layers.Dense(4, kernel_initializer=drawn),
    "lambda as initializer": lambda: layers.Dense(
        4, kernel_initializer=lambda shape, dtype: keras.ops.zeros(shape, dtype)
    ),
    "epsilon": lambda: late(layers.LayerNormalization(), "epsilon", 0.5),
    "axis of a softmax": lambda: with_attribute("axis", 0)(layers.Softmax()),
    "negative slope": lambda: with_attribute("negative_slope", 0.9)(layers.LeakyReLU()),
    "Lambda in a model": lambda: keras.Sequential([layers.Lambda(lambda x: x * 2)]),
}


def around_hidden(layer):
    x = keras.Input((4,))
    y = layers.Dense(8, "relu", name="hidden")(layer(x))
    return randomize(keras.Model(x, layers.Dense(2)(y)))


@pytest.mark.parametrize("kind", UNTOUCHED)
def test_an_untouched_layer_stays_the_same_function(kind):
    model = around_hidden(UNTOUCHED[kind]())
    kill(model, lambda s: np.arange(s.groups) % 2 == 0)
    expected = outputs(model, noise(3, 4))
    small = rebuild(model)
    assert_same(expected, outputs(small, noise(3, 4)))
    assert_same(expected, outputs(rebuild(small), noise(3, 4)))
    assert small.count_params() < model.count_params()
    assert not {id(v) for v in model.variables} & {id(v) for v in small.variables}


def test_a_pruned_layer_keeps_what_was_set_by_hand():
    hidden = layers.Dense(8, lambda x: keras.ops.relu(x) * 3, name="hidden")
    x = keras.Input((4,))
    model = randomize(keras.Model(x, layers.Dense(2)(hidden(x))))
    hidden.note, hidden.activation = ["seen", 3], gelu
    kill(model, lambda s: np.arange(s.groups) % 2 == 0, producers_only=True)
    small = rebuild(model)
    assert_same(outputs(model, noise(3, 4)), outputs(small, noise(3, 4)))
    copy = small.get_layer("hidden")
    assert copy.note == ["seen", 3] and copy.activation is gelu and copy.units == 4
    copy.note.append("elsewhere")
    assert hidden.note == ["seen", 3]


def test_a_pruned_layer_in_a_layer_keeps_an_activation_that_it_was_given_later():
    layer = Around()
    model = around_hidden(layer)
    layer.first.activation, layer.second.activation = gelu, keras.activations.silu
    kill(model, lambda s: np.arange(s.groups) % 2 == 0, producers_only=True)
    small = rebuild(model)
    assert_same(outputs(model, noise(3, 4)), outputs(small, noise(3, 4)))
    assert small.count_params() < model.count_params()


def test_flags_of_layers_in_a_layer():
    layer = Around()
    model = around_hidden(layer)
    layer.first.trainable = False
    layer.inner.supports_masking = True
    layer.second.activity_regularizer = keras.regularizers.L2(0.5)
    kill(model, lambda s: np.arange(s.groups) % 2 == 0)
    small = rebuild(model)
    copy = next(x for x in small.layers if isinstance(x, Around))
    assert copy.first.units == 3 and not copy.first.trainable and copy.second.trainable
    assert copy.inner.supports_masking
    assert float(copy.second.activity_regularizer.l2) == 0.5
    assert len(small.trainable_variables) == len(model.trainable_variables)
    assert not layer.first.trainable and layer.first.units == 6


@keras.saving.register_keras_serializable("test_attributes")
class Dropped(layers.Layer):
    """A pair of layers with a dropout between."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.drop = layers.Dense(8, "relu"), layers.Dropout(0.5)
        self.second = layers.Dense(4)

    def call(self, x):
        return x + self.second(self.drop(self.first(x)))


@pytest.mark.parametrize("inside", [False, True])
def test_dropout_that_was_taken_away(inside):
    x = keras.Input((4,))
    layer = Dropped() if inside else layers.Dropout(0.5)
    y = layers.Dense(4, "relu")(layers.Dense(8, "relu", name="hidden")(layer(x)))
    model = randomize(keras.Model(x, layers.Dense(2)(y)))
    (layer.drop if inside else layer).rate = 0.0
    # In the first round `inside` is left whole, in the second it is cut.
    for prune in (lambda s: (np.arange(s.groups) % 2 == 0) & (s.name == "hidden"), half):
        kill(model, prune)
        small = rebuild(model)
        assert small.count_params() < model.count_params()
        for training in (False, True):
            expected = model(noise(3, 4), training=training)
            assert_same([expected], [small(noise(3, 4), training=training)])


def half(structure):
    return np.arange(structure.groups) % 2 == 0


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float64"])
def test_policies_of_untouched_layers(policy):
    model = around_hidden(layers.Dense(4, lambda x: x * 2, dtype=policy))
    kill(model, lambda s: np.arange(s.groups) % 2 == 0)
    small = rebuild(model)
    assert [x.dtype_policy.name for x in small.layers] == [
        x.dtype_policy.name for x in model.layers
    ]
    assert_same(outputs(model, noise(3, 4)), outputs(small, noise(3, 4)))


def test_a_recurrent_layer_that_keeps_its_state():
    x = keras.Input(batch_shape=(2, 3, 4))
    recurrent = layers.GRU(4, stateful=True)
    y = layers.Dense(8, "relu", name="hidden")(recurrent(x))
    model = randomize(keras.Model(x, layers.Dense(2)(y)))
    kill(model, lambda s: np.arange(s.groups) % 2 == 0)
    model(noise(2, 3, 4))
    small = rebuild(model)
    recurrent.reset_state()  # A new model starts anew, as a loaded one does.
    for seed in (1, 2):  # The second call starts from where the first one ended.
        assert_same([model(noise(2, 3, 4, seed=seed))], [small(noise(2, 3, 4, seed=seed))])


class Holder:
    """What nobody can look into."""

    __slots__ = ("value",)


@pytest.mark.parametrize("kind", ["object", "function that holds the layer"])
def test_what_cannot_be_carried_over_is_refused(kind):
    layer = Times(3)
    layer.hidden_thing = Holder() if kind == "object" else (lambda x: x * layer.by)
    model = around_hidden(layer)
    with pytest.raises(ValueError, match=r"'times.*'hidden_thing'.*`get_config\(\)`"):
        rebuild(model)


class OwnFunctions(layers.Layer):
    """Functions that hold the layer are made anew with each."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.by = 1.0
        self.lines = [lambda x: x * self.by, self.shifted, functools.partial(self.shifted)]

    def shifted(self, x):
        return x + self.by

    def call(self, x):
        for line in self.lines:
            x = line(x)
        return x

    def get_config(self):
        return super().get_config()


def test_functions_that_hold_their_layer_are_those_of_the_copy():
    model = around_hidden(with_attribute("by", 3.0)(OwnFunctions(name="own")))
    kill(model, lambda s: np.arange(s.groups) % 2 == 0)
    expected = outputs(model, noise(3, 4))
    small = rebuild(model)
    assert_same(expected, outputs(small, noise(3, 4)))
    model.get_layer("own").by = 7.0
    assert_same(expected, outputs(small, noise(3, 4)))


def test_what_is_the_same():
    def times(by):
        return lambda x: x * by

    assert same(times(2), times(2)) and not same(times(2), times(3))
    assert same(functools.partial(gelu, 1), functools.partial(gelu, 1))
    assert not same(functools.partial(gelu, 1), functools.partial(gelu, 2))
    assert same({"a": [1, None]}, {"a": [1, None]}) and not same({"a": [1]}, {"a": [2]})
    assert same(np.ones(2), np.ones(2)) and not same(np.ones(2), np.zeros(2))
    assert not same(1, True) and same(float("nan"), float("nan"))
    assert same(keras.regularizers.L2(0.1), keras.regularizers.L2(0.1))
    assert not same(keras.regularizers.L2(0.1), keras.regularizers.L2(0.2))
    layer = layers.Dense(2)
    assert holds_layers([lambda x: layer(x)]) and holds_layers(keras.random.SeedGenerator(0))
    assert not holds_layers([gelu, 1, "a", keras.regularizers.L2(0.1)])


def test_the_old_layer_has_its_functions_back():
    function = lambda x: x * 2  # noqa: E731
    model = around_hidden(layers.Dense(4, function))
    rebuild(model)
    assert model.layers[1].activation is function
