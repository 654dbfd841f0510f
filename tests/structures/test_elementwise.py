import keras
import pytest

from tfprune.structures.elementwise import is_elementwise_function

ALONE = "relu gelu silu tanh sigmoid elu selu softplus mish hard_silu relu6 leaky_relu linear"
MIXING = "softmax log_softmax glu sparsemax"


@pytest.mark.parametrize("name", ALONE.split())
def test_activations_that_treat_units_alone(name):
    assert is_elementwise_function(keras.activations.get(name))


@pytest.mark.parametrize("name", MIXING.split())
def test_activations_that_mix_units(name):
    assert not is_elementwise_function(keras.activations.get(name))


def test_lambdas_are_seen_through():
    assert is_elementwise_function(lambda x: x * keras.ops.sigmoid(1.7 * x))
    assert not is_elementwise_function(lambda x: x - keras.ops.mean(x, axis=-1, keepdims=True))
