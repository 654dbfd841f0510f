"""Each assumption about Keras's private parts, tested against Keras alone.

When one of these fails on a new Keras, mend `tfprune/keras_private`; the rest will follow.
"""

import keras
import numpy as np
import pytest
from keras import layers

from tfprune import keras_private


def functional():
    x = keras.Input((4,), name="x")
    y = layers.Dense(3, name="a")(x)
    return keras.Model({"x": x}, [layers.Dense(2, name="b")(keras.ops.relu(y))])


def sequential():
    return keras.Sequential([keras.Input((4,)), layers.Dense(3, name="a"), layers.Dense(2)])


# -- graphs --------------------------------------------------------------------------------------


def test_the_functional_api_makes_functional_models():
    class Own(keras.Model):
        pass

    x = keras.Input((4,))
    own = Own(x, layers.Dense(2)(x))
    assert keras_private.is_functional(functional()) and keras_private.is_functional(own)
    assert keras_private.is_functional_itself(functional())
    assert not keras_private.is_functional_itself(own)
    assert not keras_private.is_functional(sequential())
    assert not keras_private.is_functional(layers.Dense(2))


def test_a_functional_model_runs_its_graph_unless_it_has_a_call_of_its_own():
    class Doubled(keras.Model):
        def call(self, inputs, training=None, mask=None):
            return 2 * super().call(inputs)

    x = keras.Input((4,))
    assert keras_private.runs_its_graph(functional())
    assert not keras_private.runs_its_graph(Doubled(x, layers.Dense(2)(x)))


def test_a_sequential_model_runs_a_functional_one():
    model = sequential()
    inside = keras_private.functional_inside(model)
    assert keras_private.is_functional(inside)
    x = np.ones((1, 4), "float32")
    np.testing.assert_array_equal(inside(x), model(x))
    assert keras_private.functional_inside(keras.Sequential([layers.Dense(2)])) is None


def test_nodes_run_from_inputs_to_outputs():
    model = functional()
    nodes = keras_private.nodes_of(model)
    assert [node.operation.name for node in nodes if node.operation in model.layers] == [
        "x",
        "a",
        "b",
    ]
    assert len(nodes) == 4 and nodes[0].is_input
    assert nodes[2].input_tensors[0] is nodes[1].outputs[0]
    assert nodes[1].arguments.args[0] is nodes[0].outputs[0]


def test_inputs_and_outputs_keep_their_structure():
    model = functional()
    assert list(keras_private.inputs_struct(model)) == ["x"]
    assert keras_private.inputs_struct(model)["x"] is model.inputs[0]
    assert keras_private.outputs_struct(model)[0] is model.outputs[0]
    assert keras_private.inputs_struct(keras.Model()) is None


def test_a_tensor_knows_the_call_that_made_it():
    x = keras.Input((4,))
    dense = layers.Dense(4)
    first = dense(x)
    second = dense(first)
    assert keras_private.operation_of(second) is dense
    assert isinstance(keras_private.operation_of(x), layers.InputLayer)
    assert keras_private.node_of(second).input_tensors[0] is first
    assert keras_private.node_of(second).outputs[0] is second
    assert keras_private.calls_of(dense) == [
        keras_private.node_of(first),
        keras_private.node_of(second),
    ]
    alone = keras.KerasTensor((2, 4))
    assert keras_private.node_of(alone) is None and keras_private.operation_of(alone) is None


def test_calls_can_be_forgotten():
    x = keras.Input((4,))
    first, second = layers.Dense(4), layers.Dense(4)
    kept = first(x)
    before = keras_private.keep_calls(first)
    before = {name: list(nodes) for name, nodes in before.items()}
    with keras_private.forgetting_calls([first, second]):
        second(first(kept))
        assert len(keras_private.calls_of(first)) == 2
    assert keras_private.calls_of(first) == [keras_private.node_of(kept)]
    assert keras_private.calls_of(second) == []
    assert keras_private.keep_calls(first) == before
    assert set(before) <= set(vars(first))


def test_masks_lie_on_tensors():
    ids = keras.Input((4,), dtype="int32")
    assert keras_private.mask_of(ids) is None
    assert keras_private.mask_of(layers.Embedding(3, 2, mask_zero=True)(ids)) is not None
    assert keras_private.mask_of(layers.Embedding(3, 2)(ids)) is None


def test_operations_leave_nodes_of_their_classes():
    x = keras.Input((4,))
    made = {
        "Relu": keras.ops.relu(x),
        "Gelu": keras.ops.gelu(x),
        "Add": x + x,
        "Multiply": keras.ops.multiply(x, x),
        "Rsqrt": keras.ops.rsqrt(x),
        "Cast": keras.ops.cast(x, "int32"),
        "ReLU": keras.activations.relu(x, max_value=3.0),
    }
    for name, tensor in made.items():
        (cls,) = keras_private.operation_classes([name])
        assert type(keras_private.operation_of(tensor)) is cls, name


def test_all_operations_that_are_named_exist():
    from tfprune.structures import elementwise

    names = elementwise._OPERATION_NAMES
    assert len(keras_private.operation_classes(names)) == len(set(names)) == len(names)
    assert keras_private.operation_classes(["NoSuchOperation"]) == ()


# -- layers --------------------------------------------------------------------------------------


class Holder(layers.Layer):
    def __init__(self):
        super().__init__()
        self.first = layers.Dense(2)
        self.listed = [sequential()]
        self.own = self.add_weight(shape=(2,), name="own")
        self.kept = self.add_weight(shape=(), trainable=False, name="kept")


def test_layers_inside_are_found_at_every_depth():
    holder = Holder()
    names = [x.name for x in keras_private.inner_layers(holder)]
    assert holder.first.name in names and "a" in names
    direct = keras_private.inner_layers(holder, recursive=False)
    assert set(direct) == {holder.first, holder.listed[0]}
    assert keras_private.layer_and_inner_layers(holder)[0] is holder
    assert set(keras_private.layer_and_inner_layers(holder)[1:]) == set(
        keras_private.inner_layers(holder)
    )


def test_own_variables_are_not_those_of_layers_inside():
    holder = Holder()
    assert [v.name for v in keras_private.own_variables(holder)] == ["own", "kept"]


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
    variable = keras_private.plain_variable(layer, attribute)
    assert isinstance(variable, keras.Variable)
    assert any(variable is v for v in layer.variables)
    assert keras_private.variable_name(layer, attribute) == name
    assert vars(layer)[name] is variable
    np.testing.assert_array_equal(variable, getattr(layer, attribute))


def test_what_lies_in_the_dictionary_is_what_the_layer_multiplies():
    dense = layers.Dense(2, use_bias=False)
    dense.build((1, 3))
    name = keras_private.variable_name(dense, "kernel")
    plain = vars(dense)[name]
    vars(dense)[name] = 2 * keras.ops.convert_to_tensor(plain)
    x = np.ones((1, 3), "float32")
    doubled = keras.ops.convert_to_numpy(dense(x))
    vars(dense)[name] = plain
    np.testing.assert_allclose(doubled, 2 * keras.ops.convert_to_numpy(dense(x)))


def test_lora_stays_out_of_the_plain_variable():
    dense = layers.Dense(3)
    dense.build((1, 4))
    kernel = keras_private.plain_variable(dense, "kernel")
    dense.enable_lora(2)
    assert keras_private.plain_variable(dense, "kernel") is kernel


def test_a_sequential_model_tracks_its_layers():
    model = sequential()
    assert isinstance(keras_private.first_layer(model), layers.InputLayer)
    first = keras_private.first_layer(model)
    with keras_private.unlocked(first):
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
    assert list(keras_private.build_shapes(dense).values()) == [(None, 4)]
    assert keras_private.build_shapes(two) == {"query_shape": (1, 2), "value_shape": (1, 3)}
    fresh = layers.Dense(2)
    assert keras_private.build_shapes(fresh) == {}
    keras_private.set_build_shapes(fresh, keras_private.build_shapes(dense))
    assert fresh.get_build_config() == dense.get_build_config()


def test_a_built_layer_is_locked_until_it_is_unlocked():
    model = functional()
    with pytest.raises(ValueError):
        model.get_layer("a").add_weight(shape=(), name="late")
    layer = model.get_layer("a")
    with keras_private.unlocked(layer):
        layer.late = layers.Dense(1)
    layer.late.build((1, 1))
    assert any(v is layer.late.kernel for v in model.variables)
    late = layer.late
    with keras_private.unlocked(layer):
        del layer.late
        keras_private.untrack(layer, late)
    assert not any(v is late.kernel for v in model.variables)
    with pytest.raises(ValueError):
        layer.add_weight(shape=(), name="late")


# -- attention -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.MultiHeadAttention(2, 3, value_dim=5),
        lambda: layers.GroupQueryAttention(3, 4, 2),
    ],
)
def test_projections_of_attention(make):
    x = keras.Input((6, 8))
    layer = make()
    layer(x, x)
    parts = keras_private.projections(layer)
    inside = keras_private.inner_layers(layer)
    for part in (parts.query, parts.key, parts.value, parts.output):
        assert isinstance(part, layers.EinsumDense) and part in inside
    assert parts.query.kernel.shape[0] == parts.value.kernel.shape[0] == 8
    assert parts.query.kernel.shape[1:] == parts.output.kernel.shape[:2] or (
        parts.value.kernel.shape[1:] == parts.output.kernel.shape[:2]
    )
    assert parts.key.kernel.shape[1] == parts.value.kernel.shape[1]
    assert parts.output.kernel.shape[-1] == 8


def test_projections_are_what_attention_computes_with():
    x = keras.Input((6, 8))
    layer = layers.MultiHeadAttention(2, 3)
    layer(x, x)
    given = np.random.default_rng(0).normal(size=(1, 6, 8)).astype("float32")
    before = keras.ops.convert_to_numpy(layer(given, given))
    parts = keras_private.projections(layer)
    parts.output.kernel.assign(2 * parts.output.kernel)
    after = keras.ops.convert_to_numpy(layer(given, given))
    np.testing.assert_allclose(after, 2 * before, rtol=1e-4, atol=1e-5)


def test_the_output_shape_of_attention_is_kept():
    assert keras_private.output_shape_of(layers.MultiHeadAttention(2, 3)) is None
    made = layers.MultiHeadAttention(2, 3, output_shape=(5,))
    assert tuple(keras_private.output_shape_of(made)) == (5,)


# -- saving --------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("tests_private")
class Named(layers.Layer):
    pass


def test_classes_are_written_under_their_registered_names():
    assert keras_private.registered_name(Named) == "tests_private>Named"
    assert keras_private.registered_name(layers.Dense) == "Dense"


def test_a_class_can_be_written_under_the_name_of_another():
    class Copy(Named):
        pass

    keras_private.register_as(Copy, "tests_private>Named")
    written = keras.saving.serialize_keras_object(Copy())
    assert written["registered_name"] == "tests_private>Named"
    assert type(keras.saving.deserialize_keras_object(written)) is Named


def test_public_modules():
    assert keras_private.public_module(layers.Dense) == "keras.layers"
    assert keras_private.public_module(Named) == Named.__module__
    keras_hub = pytest.importorskip("keras_hub")
    assert keras_private.public_module(keras_hub.models.BertBackbone) == "keras_hub.models"
