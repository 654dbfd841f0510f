"""Objects that know the arguments they were made with: an experiment can be written down."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from inspect import signature
from typing import Any, ClassVar

import keras


class Configurable:
    """Mixed into a class whose objects are made again from `get_config()`.

    Arguments that are data, such as a dataset, are not part of the configuration.

    Example:

    >>> import tfprune
    >>> from tfprune.callbacks import ImportancePruning
    >>> half = ImportancePruning(target=tfprune.Sparsity(0.5), criterion="magnitude")
    >>> again = ImportancePruning.from_config(half.get_config())
    >>> again.target
    Sparsity(share=0.5)
    """

    _arguments: dict[str, Any]
    _data_arguments: ClassVar[tuple[str, ...]] = ("data",)

    def __init_subclass__(cls, **kwargs):
        """Lets Keras deserialize the classes of this package."""
        super().__init_subclass__(**kwargs)
        if cls.__module__.startswith("tfprune.") and not cls.__name__.startswith("_"):
            keras.saving.register_keras_serializable("tfprune")(cls)

    def __new__(cls, *args, **kwargs):
        """Keeps the arguments before `__init__` is called."""
        made = super().__new__(cls)
        try:
            given = signature(cls.__init__).bind(made, *args, **kwargs).arguments
        except TypeError:
            given = {}  # `__init__` says what is wrong; a copy is made without arguments.
        object.__setattr__(made, "_arguments", dict(list(given.items())[1:]))
        return made

    def get_config(self) -> dict[str, Any]:
        """The arguments that were given, but for data; what JSON can hold.

        Functions are written down as Keras does: a registered one by its name.
        """
        return {
            name: keras.saving.serialize_keras_object(
                list(value) if type(value) is tuple else value
            )
            for name, value in self._arguments.items()
            if name not in self._data_arguments
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], **more):
        """Makes an object again.

        Args:
            config: What `get_config` returned.
            **more: Arguments that are not part of it, such as `data`, or that are to differ.

        Raises:
            ValueError: If `config` is no dictionary.
        """
        if not isinstance(config, Mapping):
            raise ValueError(
                f"`config` must be a dictionary, as `get_config()` gives it. Received: {config!r}"
            )
        given = {n: keras.saving.deserialize_keras_object(v) for n, v in config.items()}
        return made_with(cls, {**given, **more})


def made_with(cls: type[Any], given: Mapping[str, Any]) -> Any:
    """An object made with the arguments that another one was made with.

    Args:
        cls: Its class.
        given: Argument name to value; those of `*args` and `**kwargs` are in one entry each.
    """
    args, kwargs = [], dict(given)
    for parameter in signature(cls.__init__).parameters.values():
        if parameter.kind == parameter.VAR_KEYWORD:
            kwargs |= kwargs.pop(parameter.name, {})
        elif parameter.kind == parameter.VAR_POSITIONAL:
            # What stands before them can be given by place alone.
            args += kwargs.pop(parameter.name, ())
        elif parameter.kind == parameter.POSITIONAL_ONLY and parameter.name in kwargs:
            args.append(kwargs.pop(parameter.name))
    return cls(*args, **kwargs)


def copy_from_arguments(made: Configurable, memo: dict[int, Any]) -> Any:
    """A deep copy for `__deepcopy__`: an object made with copies of the same arguments.

    Data may be a dataset, which cannot be copied; a subclass may take one under another name, so
    what cannot be copied is shared.

    Args:
        made: The object.
        memo: What `__deepcopy__` is given.
    """
    given = {
        name: value if name in made._data_arguments else _copied_or_shared(value, memo)
        for name, value in made._arguments.items()
    }
    again = memo[id(made)] = made_with(type(made), given)
    return again


def _copied_or_shared(value, memo):
    if type(value) is dict:  # Such as the arguments that a subclass takes as `**kwargs`.
        return {key: _copied_or_shared(each, memo) for key, each in value.items()}
    try:
        return copy.deepcopy(value, memo)
    except (TypeError, ValueError, NotImplementedError):
        return value
