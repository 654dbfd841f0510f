import keras
import pytest

from tfprune.keras_private.functional import mask_of
from tfprune.keras_private.tracing import all_letters, give_mask, missing_outputs, run_abstractly


class WithCache(keras.layers.Layer):
    def call(self, x):
        return x + 1, None


def test_missing_outputs_are_allowed_meanwhile_alone():
    layer, x = WithCache(), keras.Input((2,))
    with missing_outputs():
        y, cache = layer(x)
    assert cache is None and tuple(y.shape) == (None, 2)
    assert [len(node.outputs) for node in layer._inbound_nodes] == [1]
    with pytest.raises(ValueError, match="must be tensors"):
        layer(x)


def test_a_mask_is_carried():
    x, mask = keras.KerasTensor((None, 3, 4)), keras.KerasTensor((None, 3), dtype="bool")
    give_mask(x, mask)
    assert mask_of(x) is mask


@pytest.mark.tensorflow_only
def test_a_call_runs_on_tensors_of_the_backend_and_builds_what_is_inside():
    import tensorflow as tf

    class OfTensorFlow(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = keras.layers.Dense(3)

        def call(self, x, scale):
            return self.inner(tf.one_hot(x, 4)) * scale

    layer = OfTensorFlow()
    ids, scale = keras.KerasTensor((None, 5), "int32"), keras.KerasTensor((None, 5, 1))
    run_abstractly(layer, [ids], {"scale": scale})
    assert layer.inner.kernel.shape == (4, 3)
    assert not isinstance(layer.inner.kernel.value, keras.KerasTensor)


def test_einsum_takes_any_letters():
    x, y = keras.KerasTensor((None, 3, 4, 5)), keras.KerasTensor((None, 3, 6, 5))
    equation = "BSTh,BSNh->BSTN"
    with all_letters():
        assert keras.ops.einsum(equation, x, y).shape == (None, 3, 4, 6)
        assert keras.ops.einsum("ab,bc->ac", *[keras.KerasTensor((2, 2))] * 2).shape == (2, 2)
