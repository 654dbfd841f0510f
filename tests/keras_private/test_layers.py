"""Layers inside layers and their variables, tested against Keras alone."""

import keras
import numpy as np
import pytest
from keras import layers

from tfprune.keras_private.layers import (
    build_shapes,
    first_layer,
    give_signatures,
    inner_layers,
    kept_by_keras,
    layer_and_inner_layers,
    own_variables,
    own_variables_by_name,
    plain_variable,
    set_build_shapes,
    unlocked,
    untrack,
    variable_name,
)


def functional():
    x = keras.Input((4,), name="x")
    y = layers.Dense(3, name="a")(x)
    return keras.Model({"x": x}, [layers.Dense(2, name="b")(keras.ops.relu(y))])


def sequential():
    return keras.Sequential([keras.Input((4,)), layers.Dense(3, name="a"), layers.Dense(2)])


class Holder(layers.Layer):
    def __init__(self):
        super().__init__()
        self.first = layers.Dense(2)
        self.listed = [sequential()]
        self.own = self.add_weight(shape=(2,), name="own")
        self.kept = self.add_weight(shape=(), trainable=False, name="kept")


def test_layers_inside_are_found_at_every_depth():
    holder = Holder()
    names = [x.name for x in inner_layers(holder)]
    assert holder.first.name in names and "a" in names
    direct = inner_layers(holder, recursive=False)
    assert set(direct) == {holder.first, holder.listed[0]}
    assert layer_and_inner_layers(holder)[0] is holder
    assert set(layer_and_inner_layers(holder)[1:]) == set(inner_layers(holder))


def test_own_variables_are_not_those_of_layers_inside():
    holder = Holder()
    assert [v.name for v in own_variables(holder)] == ["own", "kept"]


@pytest.mark.parametrize(
    "layer, shape, attribute, name",
    [
        (layers.Dense(3), (1, 4), "kernel", "_kernel"),
        (layers.Dense(3), (1, 4), "bias", "bias"),
        (layers.EinsumDense("ab,bc->ac", 3), (1, 4), "kernel", "_kernel"),
        (layers.Embedding(5, 3), (1, 4), "embeddings", "_embeddings"),
        (layers.Conv1D(3, 2), (1, 4, 2), "kernel", "_kernel"),
        (layers.LayerNormalization(), (1, 4), "gamma", "gamma"),
        (layers.BatchNormalization(), (1, 4), "beta", "beta"),
    ],
)
def test_variables_lie_behind_their_attributes(layer, shape, attribute, name):
    layer.build(shape)
    variable = plain_variable(layer, attribute)
    assert isinstance(variable, keras.Variable)
    assert any(variable is v for v in layer.variables)
    assert variable_name(layer, attribute) == name
    assert vars(layer)[name] is variable
    np.testing.assert_array_equal(variable, getattr(layer, attribute))


def test_what_lies_in_the_dictionary_is_what_the_layer_multiplies():
    dense = layers.Dense(2, use_bias=False)
    dense.build((1, 3))
    name = variable_name(dense, "kernel")
    plain = vars(dense)[name]
    vars(dense)[name] = 2 * keras.ops.convert_to_tensor(plain)
    x = np.ones((1, 3), "float32")
    doubled = keras.ops.convert_to_numpy(dense(x))
    vars(dense)[name] = plain
    np.testing.assert_allclose(doubled, 2 * keras.ops.convert_to_numpy(dense(x)))


def test_lora_stays_out_of_the_plain_variable():
    dense = layers.Dense(3)
    dense.build((1, 4))
    kernel = plain_variable(dense, "kernel")
    dense.enable_lora(2)
    assert plain_variable(dense, "kernel") is kernel


def test_a_sequential_model_tracks_its_layers():
    model = sequential()
    assert isinstance(first_layer(model), layers.InputLayer)
    first = first_layer(model)
    with unlocked(first):
        first.extra = layers.Dense(1)
        first.extra.build((1, 1))
    assert any(v is first.extra.kernel for v in model.variables)


def test_shapes_of_build_are_kept():
    class Two(layers.Layer):
        def build(self, query_shape, value_shape):
            self.shapes = (query_shape, value_shape)

        def call(self, query, value):
            return query

    dense, two = layers.Dense(2), Two()
    dense.build((None, 4))
    two(np.ones((1, 2)), np.ones((1, 3)))
    assert list(build_shapes(dense).values()) == [(None, 4)]
    assert build_shapes(two) == {"query_shape": (1, 2), "value_shape": (1, 3)}
    fresh = layers.Dense(2)
    assert build_shapes(fresh) == {}
    set_build_shapes(fresh, build_shapes(dense))
    assert fresh.get_build_config() == dense.get_build_config()


def test_a_built_layer_is_locked_until_it_is_unlocked():
    model = functional()
    with pytest.raises(ValueError):
        model.get_layer("a").add_weight(shape=(), name="late")
    layer = model.get_layer("a")
    with unlocked(layer):
        layer.late = layers.Dense(1)
    layer.late.build((1, 1))
    assert any(v is layer.late.kernel for v in model.variables)
    late = layer.late
    with unlocked(layer):
        del layer.late
        untrack(layer, late)
    assert not any(v is late.kernel for v in model.variables)
    with pytest.raises(ValueError):
        layer.add_weight(shape=(), name="late")


def test_a_wrapper_takes_the_arguments_of_the_layer_inside():
    class Wrapper(keras.layers.Wrapper):
        def __init__(self, layer):
            give_signatures(self, layer)
            super().__init__(layer)

        def build(self, *args, **kwargs):
            self.built_for = args, kwargs
            self.layer.build(*args, **kwargs)

        def call(self, *args, **kwargs):
            self.called_with = kwargs
            return self.layer(*args, **kwargs)

    wrapper = Wrapper(keras.layers.MultiHeadAttention(2, 3))
    x = keras.layers.Masking()(np.ones((2, 4, 5), "float32"))
    wrapper(x, x, training=True)
    assert wrapper.built_for == ((), {"query_shape": (2, 4, 5), "value_shape": (2, 4, 5)})
    assert wrapper.called_with["training"] is True
    assert wrapper.called_with["query_mask"] is not None
    dense = Wrapper(keras.layers.Dense(3))
    assert dense(np.ones((2, 4), "float32")).shape == (2, 3)


@pytest.mark.parametrize("make", [functional, sequential])
def test_what_models_keep_of_their_graph_is_for_keras(make):
    held = set(vars(make()))
    assert {"_nodes", "_operations"} & held or "_functional" in held
    assert held - kept_by_keras(True) <= {
        "activity_regularizer",
        "autocast",
        "supports_jit",
        "_trainable",
        "_supports_masking",
        "_input_spec",
        "_convert_input_args",
        "_allow_non_tensor_positional_args",
    }
    assert "units" not in kept_by_keras(True)


def test_own_variables_have_the_names_of_their_attributes():
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    assert own_variables_by_name(layer) == {"kernel": layer._kernel, "bias": layer.bias}
    outer = keras.layers.TimeDistributed(layer)
    assert own_variables_by_name(outer) == {}
