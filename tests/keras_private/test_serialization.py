"""The names of classes in files, tested against Keras alone."""

import keras
import pytest
from keras import layers

from tfprune.keras_private.serialization import (
    also_known,
    describe_in_files,
    load_described,
    public_module,
    register_as,
    registered_name,
)


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


DESCRIPTION = "something that needs more than Keras"


@keras.saving.register_keras_serializable("tests_private")
class Described(layers.Layer):
    pass


def test_a_class_can_be_written_as_a_description():
    class Special(Described):
        pass

    register_as(Special, "tests_private>Described")
    describe_in_files(Special, DESCRIPTION)
    load_described(DESCRIPTION, Described)
    written = keras.saving.serialize_keras_object(Special())
    assert (written["module"], written["class_name"]) == ("keras", DESCRIPTION)
    assert type(keras.saving.deserialize_keras_object(written)) is Described
    # What inherits from it is written as itself.
    assert keras.saving.serialize_keras_object(Described())["class_name"] == "Described"


def test_a_description_that_nobody_knows_is_quoted_alone():
    inner = keras.Sequential([keras.Input((2,)), Named(name="inner")])
    written = keras.saving.serialize_keras_object(inner)
    unknown = {"module": "keras", "class_name": "unknown thing", "registered_name": None}
    written["config"]["layers"][1] |= unknown
    with pytest.raises(ValueError) as caught:
        keras.saving.deserialize_keras_object(written)
    (line,) = str(caught.value).splitlines()
    assert line.startswith("Could not deserialize 'keras.unknown thing'") and len(line) < 120


def test_what_a_scope_around_says_stays_known():
    class Outer(layers.Layer):
        pass

    class Inner(layers.Layer):
        pass

    written = [keras.saving.serialize_keras_object(cls()) for cls in (Outer, Inner)]
    with keras.saving.custom_object_scope({"Outer": Outer}):
        with also_known({"Inner": Inner}):
            made = [keras.saving.deserialize_keras_object(x) for x in written]
        assert [type(x) for x in made] == [Outer, Inner]
        keras.saving.deserialize_keras_object(written[0])
        with pytest.raises(TypeError, match="Inner"):
            keras.saving.deserialize_keras_object(written[1])
