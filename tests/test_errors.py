import keras
import pytest

from tfprune.errors import in_one_line


def test_the_first_line_without_what_keras_says_around_it():
    class Fails(keras.layers.Layer):
        def call(self, x):
            raise TypeError("\x1b[1mIt is not so.\x1b[0m\nBut otherwise.")

    with pytest.raises(TypeError) as caught:
        Fails()(keras.ops.ones((1, 2)))
    assert in_one_line(caught.value) == "It is not so."


def test_what_says_nothing_or_too_much():
    assert in_one_line(KeyError()) == "KeyError"
    assert in_one_line(ValueError("a" * 300), 10) == "a" * 9 + "…"
    told = "{{function_node f}} Input to reshape [Op:Reshape] name: "
    assert in_one_line(ValueError(told)) == "Input to reshape"
