"""Checks of arguments: one wording for all messages, and NumPy's numbers count as numbers."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from inspect import signature
from numbers import Integral, Real
from typing import Any, Literal, overload


@overload
def integer(name: str, value: Any, least: int = 1, optional: Literal[False] = False) -> int: ...
@overload
def integer(name: str, value: Any, least: int = 1, *, optional: Literal[True]) -> int | None: ...
def integer(name: str, value: Any, least: int = 1, optional: bool = False) -> int | None:
    """A whole number.

    Args:
        name: The argument's name, for the message.
        value: What was given; an integer of NumPy is one too, `True` is not.
        least: The smallest that is allowed.
        optional: Whether `None` is allowed.

    Returns:
        The number as an `int`, or `None`.

    Raises:
        ValueError: If it is none, or too small.

    Example:

    >>> import numpy as np
    >>> integer("rounds", np.int64(3))
    3
    """
    if value is None and optional:
        return None
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        want = {0: "an integer, 0 or more", 1: "a positive integer"}.get(
            least, f"an integer of at least {least}"
        )
        raise _error(name, value, want + ", or None" * optional)
    return int(value)


@overload
def number(
    name: str,
    value: Any,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    optional: Literal[False] = False,
) -> float: ...
@overload
def number(
    name: str,
    value: Any,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    *,
    optional: Literal[True],
) -> float | None: ...
def number(
    name: str,
    value: Any,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    optional: bool = False,
) -> float | None:
    """A finite number in a range.

    Args:
        name: The argument's name, for the message.
        value: What was given; a number of NumPy is one too, `True` is not.
        least: The smallest that is allowed.
        most: The largest that is allowed.
        above: What it must be larger than.
        below: What it must be smaller than.
        optional: Whether `None` is allowed.

    Returns:
        The number as it was given, as a `float` unless it is an `int`; or `None`.

    Raises:
        ValueError: If it is none, or out of the range.

    Example:

    >>> number("strength", 0.5, least=0)
    0.5
    """
    if value is None and optional:
        return None
    if not is_number(value) or not (least <= value <= most and above < value < below):
        limits = [
            f"{words} {limit:g}"
            for words, limit in (
                ("at least", least),
                ("at most", most),
                ("above", above),
                ("below", below),
            )
            if math.isfinite(limit)
        ]
        want = ", ".join(["a finite number", " and ".join(limits)][: 1 + bool(limits)])
        raise _error(name, value, want + ", or None" * optional)
    return int(value) if isinstance(value, Integral) else float(value)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number; one of NumPy is one too, `True` is not."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    return math.isfinite(value)


def boolean(name: str, value: Any) -> bool:
    """`True` or `False`; a string such as `"no"`, which Python takes for true, is neither.

    Args:
        name: The argument's name, for the message.
        value: What was given; a boolean of NumPy is one too.

    Raises:
        ValueError: If it is neither.
    """
    if not isinstance(value, bool) and type(value).__name__ not in ("bool_", "bool"):
        raise _error(name, value, "True or False")
    return bool(value)


def called_with_one(name: str, function: Any, what: str) -> Any:
    """A function that can be called with one argument.

    Args:
        name: The argument's name, for the message.
        function: What was given, callable.
        what: The argument that it is called with, in words.

    Returns:
        The function.

    Raises:
        ValueError: If it is a class, or takes no or more arguments.
    """
    try:
        signature(function).bind(None)
        fits = not isinstance(function, type)
    except TypeError:
        fits = False
    except ValueError:  # Some of C tell no signature.
        fits = True
    if not fits:
        raise _error(name, function, f"a function that is called with one argument, {what}")
    return function


def called_with_none(name: str, function: Any) -> Any:
    """A function that can be called without arguments.

    Args:
        name: The argument's name, for the message.
        function: What was given, callable.

    Returns:
        The function.

    Raises:
        ValueError: If it is a class, or needs arguments.
    """
    try:
        signature(function).bind()
        fits = not isinstance(function, type)
    except TypeError:
        fits = False
    except ValueError:  # Some of C tell no signature.
        fits = True
    if not fits:
        raise _error(name, function, "a function that is called without arguments")
    return function


def one_of(name: str, value: Any, allowed: Iterable) -> Any:
    """One of a few values.

    Args:
        name: The argument's name, for the message.
        value: What was given.
        allowed: The values.

    Returns:
        The value.

    Raises:
        ValueError: If it is none of them.
    """
    allowed = tuple(allowed)
    if not any(type(value) is type(each) and value == each for each in allowed):
        raise _error(name, value, f"one of {', '.join(map(repr, allowed))}")
    return value


def keras_model(name: str, value: Any) -> Any:
    """A model of Keras 3, without what an interrupted fit has left attached to it.

    Args:
        name: The argument's name, for the message.
        value: What was given.

    Returns:
        The model.

    Raises:
        ValueError: If it is none; of one of Keras 2 that is said.
    """
    import keras

    if not isinstance(value, keras.Model):
        kind = type(value)
        if any(c.__module__.split(".")[0] == "tf_keras" for c in kind.__mro__):
            raise ValueError(
                f"`{name}` must be a model of Keras 3. Received: a {kind.__name__} of tf_keras "
                "(Keras 2). Make it with `keras` 3, or load its weights into one that is."
            )
        raise _error(name, value, "a Keras model")
    from tfprune.model_parts import end_interrupted_fit

    end_interrupted_fit(value)
    return value


def built_model(name: str, value: Any) -> Any:
    """A model of Keras 3 that has its weights.

    Args:
        name: The argument's name, for the message.
        value: What was given.

    Returns:
        The model.

    Raises:
        ValueError: If it is no such model, or is not built.
    """
    if not keras_model(name, value).built:
        raise ValueError(
            f"`{name}` must be built, so that its weights exist: give it an `Input`, or call it "
            f"once on data. Received: {name}={value.name!r}, which is not built."
        )
    return value


def finite_weights(name: str, model: Any) -> None:
    """A model without NaN or infinity in its weights.

    Args:
        name: The argument's name, for the message.
        model: A built model.

    Raises:
        ValueError: If it has such weights.
    """
    import keras
    import numpy as np

    from tfprune.model_parts import parts_of

    # What a fit has attached is no part of the model, and may be unset.
    attached = {id(v) for _, part in parts_of(model) for v in part.variables}
    for weight in model.weights:
        if id(weight) in attached:
            continue
        value = keras.ops.convert_to_numpy(weight)
        if value.dtype.kind not in "biu" and not np.all(np.isfinite(value.astype("float32"))):
            raise ValueError(
                f"`{name}` must have finite weights. Received: NaN or infinity in "
                f"{weight.path!r}. Load weights from before the training diverged."
            )


def path_given(name: str, value: Any) -> Any:
    """A path: text or an object with `__fspath__`.

    Args:
        name: The argument's name, for the message.
        value: What was given.

    Returns:
        The value.

    Raises:
        ValueError: If it is no path, or an empty one.
    """
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise _error(name, value, "a path (str or os.PathLike)")
    return value


def _error(name, value, want) -> ValueError:
    text = repr(value)
    text = text if len(text) <= 200 else f"{text[:200]}…"
    return ValueError(f"`{name}` must be {want}. Received: {name}={text}")
