"""Layers that no rule is for, between layers whose channels or units can leave."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfprune
from tests import own_layers
from tests.models import assert_same, noise, outputs, randomize

CARRY = {
    "activation": own_layers.HardSwish,
    "factors": own_layers.Scale,
    "factors_counted_in_the_configuration": lambda: own_layers.SizedScale(8),
    "normalization": own_layers.ResponseNormalization,
    "statistics": own_layers.Standardization,
}
MIX = {
    "mean": own_layers.Centred,
    "large_numbers": own_layers.Shortened,
    "places": own_layers.Fades,
    "infinite_without_weight": own_layers.Divided,
    "keras_layer_normalization": layers.LayerNormalization,
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
    loaded = keras.saving.load_model(tmp_path / "small.keras")
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
    model = randomize(keras.Model(inputs, layers.Dense(4)(own_layers.WeightedSum()([x, y]))))
    (structure,) = tfprune.find_structures(model)
    assert {s.layer.name for s in structure.producers} == {"one", "other", "weighted_sum"}
    halved(model, 6, 6, 3)


def test_what_must_stay_keeps_what_is_joined_with_it():
    inputs = keras.Input((6, 6, 8))
    y = own_layers.WeightedSum()([layers.Conv2D(8, 3, padding="same", name="conv")(inputs), inputs])
    structures = tfprune.find_structures(keras.Model(inputs, layers.Dense(4)(y)))
    assert not len(structures)
    assert "with what must stay" in structures.skipped[0].reason


@pytest.mark.parametrize(
    "between",
    [own_layers.HardSwish, own_layers.Scale, layers.BatchNormalization, layers.PReLU],
    ids=lambda x: x.__name__,
)
def test_units_of_dense_layers(between):
    make = lambda: layers.Dense(16, name="before")  # noqa: E731
    model = network(between(), make, (5,))
    structures = tfprune.find_structures(model)
    assert [(s.name, s.kind, s.groups) for s in structures] == [("before", "ffn", 16)]
    assert [s.name for s in structures.skipped] == ["after"]
    halved(model, 5)


def test_a_silent_channel_emits_what_the_layer_makes_of_zero():
    model = network(own_layers.ResponseNormalization())
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

    model = network(own_layers.Scale(), lambda: layers.Dense(16, name="before"), (5,))
    model.compile("adam", "mse")
    x, y = noise(32, 5), noise(32, 4)
    callback = GroupLasso(target=tfprune.Sparsity(0.5), verbose=0)
    model.fit(x, y, epochs=2, verbose=0, callbacks=[callback])
    small = tfprune.rebuild(model)
    assert small.get_layer("before").units == 8
    assert_same(outputs(model, x), outputs(small, x))


def test_a_layer_that_two_models_call_stays():
    shared = own_layers.Scale(name="shared")

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


@pytest.mark.parametrize("filters", [8, 12])
@pytest.mark.parametrize("cls", [own_layers.Convolution, own_layers.GatedConvolution])
def test_layers_with_kernels_of_their_own_make_and_read_channels(cls, filters, tmp_path):
    inputs = keras.Input((6, 6, 3))
    y = cls(8, name="first")(inputs)
    y = cls(filters, name="second")(layers.ReLU()(y))
    y = layers.Conv2D(5, 3, name="third")(y)
    model = randomize(keras.Model(inputs, cls(2, name="last")(y)))
    structures = tfprune.find_structures(model)
    assert [(s.name, s.groups) for s in structures] == [
        ("first", 8),
        ("second", filters),
        ("third", 5),
    ]
    small = halved(model, 6, 6, 3)
    assert (
        small.get_layer("second").get_config()[
            "filters" if cls is own_layers.Convolution else "widths"
        ]
        == filters // 2
    )
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    x = noise(2, 6, 6, 3)
    assert_same(outputs(small, x), outputs(loaded, x))


def test_what_a_kernel_of_its_own_makes_without_weights_moves_into_the_bias_behind():
    inputs = keras.Input((6, 6, 3))
    y = own_layers.Convolution(8, "sigmoid", name="first")(inputs)
    model = randomize(keras.Model(inputs, layers.Dense(2)(y)))
    first = model.get_layer("first")
    first.kernel.assign(first.kernel * (np.arange(8) > 2))
    before = outputs(model, noise(2, 6, 6, 3))
    small = tfprune.rebuild(model)
    assert small.get_layer("first").filters == 5
    assert_same(before, outputs(small, noise(2, 6, 6, 3)))


def test_a_layer_that_looks_at_all_it_reads_keeps_that():
    inputs = keras.Input((6, 6, 3))
    y = layers.Conv2D(8, 3, name="before")(inputs)
    y = own_layers.StandardizedConvolution(6, 3, name="made")(y)
    model = randomize(keras.Model(inputs, layers.Dense(2)(y)))
    structures = tfprune.find_structures(model)
    assert [(s.name, s.groups) for s in structures] == [("made", 6)]
    assert "it goes to made" in next(s.reason for s in structures.skipped if s.name == "before")
    halved(model, 6, 6, 3)


def test_a_layer_that_adds_what_it_is_given_keeps_it():
    inputs = keras.Input((5,))
    y = own_layers.Residual()(layers.Dense(16, name="before")(inputs))
    structures = tfprune.find_structures(keras.Model(inputs, layers.Dense(2)(y)))
    assert not len(structures)


def test_layers_with_other_functions_are_told_apart():
    def between(function):
        layer = own_layers.Applied()
        layer.function = function  # Not in its configuration.
        return layer

    one, other = network(between(ops.tanh)), network(between(ops.softmax))
    assert len(tfprune.find_structures(one)) == 1
    assert not len(tfprune.find_structures(other))
