"""The names of classes in files, tested against Keras alone."""

import keras
import pytest
from keras import layers

from tfprune.keras_private.saving import public_module, register_as, registered_name


@keras.saving.register_keras_serializable("tests_private")
class Named(layers.Layer):
    pass


def test_classes_are_written_under_their_registered_names():
    assert registered_name(Named) == "tests_private>Named"
    assert registered_name(layers.Dense) == "Dense"


def test_a_class_can_be_written_under_the_name_of_another():
    class Copy(Named):
        pass

    register_as(Copy, "tests_private>Named")
    written = keras.saving.serialize_keras_object(Copy())
    assert written["registered_name"] == "tests_private>Named"
    assert type(keras.saving.deserialize_keras_object(written)) is Named


def test_public_modules():
    assert public_module(layers.Dense) == "keras.layers"
    assert public_module(Named) == Named.__module__
    keras_hub = pytest.importorskip("keras_hub")
    assert public_module(keras_hub.models.BertBackbone) == "keras_hub.models"
