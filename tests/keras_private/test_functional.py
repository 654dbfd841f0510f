"""The graph of Functional models and the nodes of calls, tested against Keras alone."""

import keras
import numpy as np
from keras import layers

from tfprune.keras_private.functional import (
    calls_of,
    forgetting_calls,
    functional_inside,
    input_like,
    inputs_struct,
    is_functional,
    is_nothing_but_its_graph,
    keep_calls,
    mask_of,
    masks_at_calls,
    masks_when_run,
    node_of,
    nodes_of,
    operation_classes,
    operation_of,
    outputs_struct,
    runs_its_graph,
)


def functional():
    x = keras.Input((4,), name="x")
    y = layers.Dense(3, name="a")(x)
    return keras.Model({"x": x}, [layers.Dense(2, name="b")(keras.ops.relu(y))])


def sequential():
    return keras.Sequential([keras.Input((4,)), layers.Dense(3, name="a"), layers.Dense(2)])


def test_the_functional_api_makes_functional_models():
    class Own(keras.Model):
        pass

    x = keras.Input((4,))
    own = Own(x, layers.Dense(2)(x))
    assert is_functional(functional()) and is_functional(own)
    assert is_nothing_but_its_graph(functional()) and is_nothing_but_its_graph(own)
    assert not is_functional(sequential())
    assert not is_functional(layers.Dense(2))


def test_a_functional_model_runs_its_graph_unless_it_has_a_call_of_its_own():
    class Doubled(keras.Model):
        def call(self, inputs, training=None, mask=None):
            return 2 * super().call(inputs)

    x = keras.Input((4,))
    assert runs_its_graph(functional())
    assert not runs_its_graph(Doubled(x, layers.Dense(2)(x)))
    assert not is_nothing_but_its_graph(Doubled(x, layers.Dense(2)(x)))


def test_a_class_with_arguments_of_its_own_is_more_than_its_graph():
    class Sized(keras.Model):
        def __init__(self, units):
            x = keras.Input((4,))
            super().__init__(x, layers.Dense(units)(x))

    assert is_functional(Sized(2)) and not is_nothing_but_its_graph(Sized(2))


def test_a_new_input_is_like_the_old_one():
    old = keras.Input((4,), batch_size=3, dtype="int32", name="ids", optional=True)
    new = input_like(old)
    assert (new.shape, new.dtype, new.name) == ((3, 4), "int32", "ids")
    assert operation_of(new).optional and not operation_of(input_like(keras.Input((2,)))).optional


def test_attention_takes_the_masks_off_its_inputs_when_the_model_runs():
    ids = keras.Input((5,), dtype="int32")
    embedded = layers.Embedding(9, 4, mask_zero=True, name="embedding")(ids)
    attention, add = layers.MultiHeadAttention(2, 2), layers.Add()
    model = keras.Model(ids, add([embedded, attention(embedded, embedded)]))
    calls = len(calls_of(add))
    seen = masks_at_calls(model)
    assert seen[id(attention)] == [(True, True)]
    assert seen[id(add)] == [(False, True)]
    assert len(calls_of(add)) == calls
    nested = masks_at_calls(keras.Model(ids, model(ids)))
    assert nested[id(add)] == [(False, True)]


def test_a_sequential_model_runs_a_functional_one():
    model = sequential()
    inside = functional_inside(model)
    assert is_functional(inside)
    x = np.ones((1, 4), "float32")
    np.testing.assert_array_equal(inside(x), model(x))
    assert functional_inside(keras.Sequential([layers.Dense(2)])) is None


def test_nodes_run_from_inputs_to_outputs():
    model = functional()
    nodes = nodes_of(model)
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
    assert list(inputs_struct(model)) == ["x"]
    assert inputs_struct(model)["x"] is model.inputs[0]
    assert outputs_struct(model)[0] is model.outputs[0]
    assert inputs_struct(keras.Model()) is None


def test_a_tensor_knows_the_call_that_made_it():
    x = keras.Input((4,))
    dense = layers.Dense(4)
    first = dense(x)
    second = dense(first)
    assert operation_of(second) is dense
    assert isinstance(operation_of(x), layers.InputLayer)
    assert node_of(second).input_tensors[0] is first
    assert node_of(second).outputs[0] is second
    assert calls_of(dense) == [
        node_of(first),
        node_of(second),
    ]
    alone = keras.KerasTensor((2, 4))
    assert node_of(alone) is None and operation_of(alone) is None


def test_calls_can_be_forgotten():
    x = keras.Input((4,))
    first, second = layers.Dense(4), layers.Dense(4)
    kept = first(x)
    before = keep_calls(first)
    before = {name: list(nodes) for name, nodes in before.items()}
    with forgetting_calls([first, second]):
        second(first(kept))
        assert len(calls_of(first)) == 2
    assert calls_of(first) == [node_of(kept)]
    assert calls_of(second) == []
    assert keep_calls(first) == before
    assert set(before) <= set(vars(first))


def test_masks_lie_on_tensors():
    ids = keras.Input((4,), dtype="int32")
    assert mask_of(ids) is None
    assert mask_of(layers.Embedding(3, 2, mask_zero=True)(ids)) is not None
    assert mask_of(layers.Embedding(3, 2)(ids)) is None


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
        (cls,) = operation_classes([name])
        assert type(operation_of(tensor)) is cls, name


def test_all_operations_that_are_named_exist():
    from tfprune.structures import elementwise

    names = elementwise._OPERATION_NAMES
    assert len(operation_classes(names)) == len(set(names)) == len(names)
    assert operation_classes(["NoSuchOperation"]) == ()


def test_masks_when_run_are_more_than_symbolic_calls_show():
    ids = keras.Input((5,), dtype="int32")
    x = layers.ReversibleEmbedding(9, 4, mask_zero=True)(ids)
    y = layers.Dense(3)(x)
    # An attention layer takes the mask off `x`; another order of the calls would not.
    z = layers.MultiHeadAttention(1, 2)(x, x)
    logits = layers.Add()([x, z])
    plain = layers.Dense(3)(layers.Embedding(9, 4)(ids))
    model = keras.Model(ids, [y, logits, plain])
    assert all(mask_of(t) is None for t in (x, y, logits))
    seen = masks_when_run(nodes_of(model))
    assert {id(t) for t in (x, y, z, logits)} <= seen
    assert id(plain) not in seen


def test_a_symbolic_mask_at_the_edge_is_carried_on():
    x = layers.Embedding(9, 4, mask_zero=True)(keras.Input((5,), dtype="int32"))
    y = layers.Dense(3)(x)
    assert masks_when_run([node_of(y)]) == {id(y)}
