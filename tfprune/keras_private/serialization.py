"""How Keras names classes in files, and what it loads."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from keras.src import api_export
from keras.src.backend.common import global_state
from keras.src.saving import object_registration, serialization_lib


def registered_name(cls: type) -> str:
    """The name under which a class is written to files.

    Assumes: `object_registration.get_registered_name` gives it, registered or not.
    """
    return object_registration.get_registered_name(cls)


def register_as(cls: type, name: str) -> None:
    """Lets a class be written to files under the name of another registered class.

    Assumes: `GLOBAL_CUSTOM_NAMES` is looked up when a class is written, and that loading goes
    by the name alone.
    """
    object_registration.GLOBAL_CUSTOM_NAMES[cls] = name


def describe_in_files(cls: type, description: str) -> None:
    """Lets a class be written to files as a description of what is needed to load it.

    Where nobody has called `load_described` with it, Keras says when it loads such a file:
    "Could not deserialize 'keras.<description>' because it is not a KerasSaveable subclass".

    Assumes: A class that Keras exports is written as its module and name alone, and found by them;
    in a module of Keras that can be imported, a name that is not there is named in the error, which
    says nothing else and is passed on as it is.

    Args:
        cls: The class.
        description: What stands in the file; it has no full stop.
    """
    api_export.REGISTERED_OBJS_TO_NAMES[cls] = f"keras.{description}"


def load_described(description: str, cls: type) -> None:
    """Says which class loads what `describe_in_files` has written, in any process.

    Args:
        description: What stands in the file.
        cls: The class whose `from_config` loads it.
    """
    api_export.REGISTERED_NAMES_TO_OBJS[f"keras.{description}"] = cls


def public_module(cls: type) -> str | None:
    """The module under which Keras looks for a class: the public one where there is one.

    Assumes: Keras and KerasHub mark what they export with `_api_export_path`; what subclasses
    inherit of it is not theirs.
    """
    path = vars(cls).get("_api_export_path")
    if path:
        return (path if isinstance(path, str) else path[0]).rpartition(".")[0]
    return cls.__module__


@contextmanager
def also_known(objects: Mapping[str, Any]) -> Iterator[None]:
    """Lets names stand for classes and functions meanwhile, besides those that do already.

    A `custom_object_scope` inside another one hides what that one says.

    Assumes: the names of the scope that holds are the global attribute
    `custom_objects_scope_dict`.

    Args:
        objects: Names, and what they stand for.
    """
    known = global_state.get_global_attribute("custom_objects_scope_dict", {})
    with object_registration.CustomObjectScope({**known, **objects}):
        yield


@contextmanager
def trusting() -> Iterator[None]:
    """Lets Keras make layers with lambdas from configurations meanwhile.

    To be used on configurations of layers that are in this process, whose code has run here.

    Assumes: `SafeModeScope` is what loading with `safe_mode=False` enters.
    """
    with serialization_lib.SafeModeScope(False), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*includes a `lambda`")
        yield
