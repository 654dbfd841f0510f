"""Arguments are checked with one wording."""

import keras
import numpy as np
import pytest

from tfprune import arguments

pytestmark = pytest.mark.tensorflow_only


def test_numbers_of_numpy_are_numbers():
    assert arguments.integer("n", np.int64(3)) == 3
    assert type(arguments.integer("n", np.int64(3))) is int
    assert arguments.number("x", np.float32(0.5), least=0) == 0.5
    assert type(arguments.number("x", np.float32(0.5))) is float
    assert type(arguments.number("x", np.int32(2))) is int
    assert arguments.integer("n", None, optional=True) is None
    assert arguments.number("x", None, optional=True) is None


@pytest.mark.parametrize("value", [True, 0, -1, 1.0, "3", None, [1]])
def test_what_is_no_positive_integer(value):
    with pytest.raises(ValueError, match="`n` must be a positive integer. Received: n="):
        arguments.integer("n", value)


@pytest.mark.parametrize("value", [True, np.nan, np.inf, -0.1, 1.0, "0.5", None])
def test_what_is_no_number_of_a_range(value):
    with pytest.raises(ValueError, match="`x` must be a finite number, at least 0 and below 1"):
        arguments.number("x", value, least=0, below=1)


def test_one_of():
    assert arguments.one_of("mode", "a", ("a", "b")) == "a"
    assert arguments.one_of("verbose", 1, (0, 1)) == 1
    with pytest.raises(ValueError, match="`mode` must be one of 'a', 'b'. Received: mode='c'"):
        arguments.one_of("mode", "c", ("a", "b"))
    with pytest.raises(ValueError, match="`verbose` must be one of 0, 1"):
        arguments.one_of("verbose", True, (0, 1))


def test_a_model():
    with pytest.raises(ValueError, match="`model` must be a Keras model. Received: model=None"):
        arguments.built_model("model", None)
    with pytest.raises(ValueError, match="`before` must be built"):
        arguments.built_model("before", keras.Sequential([keras.layers.Dense(2)]))
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    assert arguments.built_model("model", model) is model


def test_a_model_of_tf_keras_is_told_apart():
    keras_2 = type("Model", (), {"__module__": "tf_keras.src.engine.training"})
    with pytest.raises(ValueError, match=r"model of Keras 3. Received: a Model of tf_keras"):
        arguments.built_model("model", keras_2())


@pytest.mark.parametrize("value", [None, 3, "", b"x"])
def test_a_path(value):
    with pytest.raises(ValueError, match=r"`path` must be a path \(str or os.PathLike\)"):
        arguments.path_given("path", value)


def test_long_values_are_cut():
    with pytest.raises(ValueError, match="…$"):
        arguments.integer("n", list(range(1000)))
