import keras
import numpy as np
import pytest

from tfprune.keras_private.variables import resize, restore, standing_in, view

X = np.ones((1, 3), "float32")


def dense():
    layer = keras.layers.Dense(4, kernel_initializer="ones")
    layer.build((None, 3))
    return layer


def test_a_resized_variable_is_the_same_object_and_can_be_restored():
    layer = dense()
    kernel, value = layer.kernel, layer.kernel.value
    befores = [
        (v, resize(v, shape)) for v, shape in zip(layer.weights, [(3, 2), (2,)], strict=True)
    ]
    assert layer.kernel is kernel and kernel.shape == (3, 2) and kernel.ndim == 2
    assert np.array_equal(layer(X), np.zeros((1, 2)))
    kernel.assign(np.full((3, 2), 2.0))
    assert np.array_equal(layer(X), np.full((1, 2), 6.0))
    for variable, before in befores:
        restore(variable, before)
    assert kernel.value is value and kernel.shape == (3, 4)
    assert np.array_equal(layer(X), np.full((1, 4), 3.0))


def test_another_value_stands_in_for_a_while_whatever_happens():
    layer = dense()
    value = layer.kernel.value
    others = [(layer.kernel, np.ones((3, 1), "float32")), (layer.bias, np.ones(1, "float32"))]
    with pytest.raises(KeyboardInterrupt), standing_in(others):
        assert np.array_equal(layer(X), [[4.0]])
        raise KeyboardInterrupt
    assert layer.kernel.value is value and layer.kernel.shape == (3, 4)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int32"])
def test_a_view_is_the_value_and_stays_what_it_was(dtype):
    variable = keras.Variable(np.arange(6).reshape(2, 3), dtype=dtype)
    before = view(variable)
    assert before.shape == (2, 3) and str(before.dtype) == dtype
    variable.assign_add(keras.ops.ones((2, 3), dtype))
    assert np.array_equal(before.astype("float32"), np.arange(6).reshape(2, 3))
    assert np.array_equal(view(variable).astype("float32"), np.arange(1, 7).reshape(2, 3))


def test_a_view_takes_no_memory():
    variable = keras.Variable(np.ones((2, 3), "float32"))
    assert not view(variable).flags.owndata and not view(variable).flags.writeable
    assert np.shares_memory(view(variable), view(variable))
