"""Compares the attributes of a layer and its copy, and gives the copy those that it lacks."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import keras
import numpy as np

from tfprune.copying import copy_from_config
from tfprune.keras_private.layers import is_of_keras, kept_by_keras
from tfprune.model_parts import own_children

_PLAIN = (type(None), bool, int, float, complex, str, bytes, np.generic)

# Where objects come from into which nobody looks.
_UNKNOWN = ("builtins", "tensorflow", "keras", "keras_hub", "jax", "jaxlib", "numpy", "_thread")


def carry_over(
    old: keras.Layer,
    new: keras.Layer,
    changes: dict[str, Any] | None = None,
    last: bool = True,
    besides: Collection[str] = (),
) -> None:
    """Gives a copy the attributes of a layer that its configuration does not say.

    Args:
        old: The layer, built.
        new: Its copy.
        changes: Where the copy is smaller, so that some attributes differ rightly: what changes
            in the configuration.
        last: Whether the copy is built, so that what it lacks by now it never gets.
        besides: Attributes that rightly differ.

    Raises:
        ValueError: If an attribute differs and cannot be carried over: something of a class that
            is unknown, or a function that holds on to the layer or to variables.
    """
    kept = kept_by_keras(isinstance(old, keras.Model))
    differing = {
        name: value
        for name, value in vars(old).items()
        if name not in kept
        and not name.startswith("_self_")
        and name not in besides
        # A copy is cut when it is built.
        and name not in ("_cuts", "_is_cut", "_inside", "_made_with", "_first_made")
        and not callable(getattr(type(old), name, None))
        and not (name in vars(new) and same(value, vars(new)[name]))
    }
    if changes is not None and differing:
        differing = _set_by_hand(old, new, changes, differing)
    for name, value in differing.items():
        if name in vars(new) and type(vars(new)[name]) is type(value) and not _is_told(value):
            continue  # Made by the same code, and what is in it cannot be compared.
        if holds_layers(value) and not _holds_functions(value):
            continue  # Layers and variables that are missing are noticed when weights are copied.
        if _is_told(value) and not holds_layers(value):
            vars(new)[name] = _copied(value)
        elif last and not is_of_keras(old):  # Keras makes such things when a layer is called.
            _refuse(old, name, value)


def carry_over_inside(old: keras.Layer, new: keras.Layer, last: bool = True) -> None:
    """`carry_over` for two layers of the same size and for the layers inside them."""
    carry_over(old, new, last=last)
    for before, after in zip(own_children(old), own_children(new), strict=False):
        if type(before) is type(after):
            carry_over_inside(before, after, last)


def _set_by_hand(old, new, changes, differing) -> dict[str, Any]:
    """Those of the attributes that neither the change nor building can have made differ."""
    # To make a composite once more may take long, and need a configuration that nobody wrote.
    known = not (own_children(old) and is_of_keras(old))
    before, after = (
        _attributes_of_fresh(old, x) if known else None for x in (dict[str, Any](), changes)
    )
    found = {}
    for name, value in differing.items():
        if name in ("_trainable", "_supports_masking"):
            found[name] = value  # Neither has to do with sizes.
        if name.startswith("_"):
            continue
        now = vars(new).get(name)
        if before is None or after is None:
            by_hand = name not in vars(new)
        elif name not in before:
            by_hand = now is None
        elif same(value, before[name]):
            # Its configuration says so; that of the layer around it, of which the copy was made,
            # need not.
            by_hand = same(value, after.get(name))
        else:
            by_hand = same(before[name], now)
        if by_hand:
            found[name] = value
    return found


def _attributes_of_fresh(layer, changes):
    try:
        return vars(copy_from_config(layer, changes))
    except Exception:  # A layer in a layer needs no configuration.
        return None


def _refuse(layer, name, value):
    raise ValueError(
        f"`rebuild` cannot copy layer {layer.name!r}: its attribute {name!r} is not what "
        f"`get_config()` of {type(layer).__name__} says, and cannot be copied. Received: "
        f"{type(value).__name__}. Either write it down in `get_config()`; or cut the model itself: "
        "`rebuild(model, in_place=True)`."
    )


def same(a: Any, b: Any) -> bool:
    """Whether two values are the same as far as can be told; layers of one class are."""
    return _same(a, b, 0)


def _same(a, b, depth) -> bool:
    if a is b or depth > 8:
        return True
    if isinstance(a, keras.Layer | keras.Variable):
        return type(a) is type(b)  # Their own attributes and values are compared or copied.
    if isinstance(a, _PLAIN) or isinstance(b, _PLAIN):
        return type(a) is type(b) and (a == b or (a != a and b != b))
    if isinstance(a, keras.KerasTensor):
        return isinstance(b, keras.KerasTensor)
    if _is_array(a):
        return _is_array(b) and _same_arrays(a, b)
    if isinstance(a, Mapping):
        return (
            isinstance(b, Mapping)
            and list(a) == list(b)
            and all(_same(a[key], b[key], depth + 1) for key in a)
        )
    if isinstance(a, list | tuple):
        return (
            isinstance(b, list | tuple)
            and len(a) == len(b)
            and all(_same(x, y, depth + 1) for x, y in zip(a, b, strict=True))
        )
    if isinstance(a, set | frozenset):
        return isinstance(b, set | frozenset) and a == b
    if _is_function(a) or _is_function(b):
        return type(a) is type(b) and _same(_inside(a), _inside(b), depth + 1)
    if type(a) is not type(b):
        return False
    inside = _inside(a)
    return inside is None or _same(inside, _inside(b), depth + 1)


def _inside(value):
    """What makes a function or an object what it is; `None` if that is unknown."""
    if isinstance(value, FunctionType):
        cells = [_contents(cell) for cell in value.__closure__ or ()]
        code = value.__code__
        return [
            (code.co_code, repr(code.co_consts), code.co_names),
            list(value.__defaults__ or ()),
            dict(value.__kwdefaults__ or {}),
            cells,
            value.__module__,
        ]
    if isinstance(value, MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, partial):
        return [value.func, list(value.args), dict(value.keywords)]
    if hasattr(value, "get_config"):
        try:
            return value.get_config()
        except Exception:  # Whatever user code raises.
            return None
    if type(value).__module__.split(".")[0] in _UNKNOWN or not hasattr(value, "__dict__"):
        return None
    return dict(vars(value))


def _contents(cell) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # It is empty.
        return None


def _is_function(value) -> bool:
    return isinstance(value, FunctionType | MethodType | partial)


def _is_array(value) -> bool:
    # Asked of very many values: what looks like no array is none, which is told at once.
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        return False
    return isinstance(value, np.ndarray) or keras.ops.is_tensor(value)


def _same_arrays(a, b) -> bool:
    try:
        a, b = (keras.ops.convert_to_numpy(x) for x in (a, b))
    except Exception:  # A tensor of a graph, or of strings.
        return True
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _is_told(value, depth=0) -> bool:
    """Whether all of a value can be compared."""
    if isinstance(value, _PLAIN) or _is_array(value) or _is_function(value):
        return True
    if depth > 8 or isinstance(value, keras.Layer | keras.Variable):
        return False
    if isinstance(value, Mapping):
        return all(_is_told(x, depth + 1) for x in value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return all(_is_told(x, depth + 1) for x in value)
    if callable(value) and hasattr(value, "__name__"):
        return True  # A class, or a function of C.
    inside = _inside(value)
    return inside is not None and all(_is_told(x, depth + 1) for x in inside.values())


def holds_layers(value: Any, depth: int = 0) -> bool:
    """Whether layers or variables are in a value, so that two models would share them."""
    if isinstance(value, keras.Layer | keras.Variable | keras.KerasTensor):
        return True
    if isinstance(value, _PLAIN) or _is_array(value) or depth > 4:
        return False
    if isinstance(value, Mapping):
        return any(holds_layers(x, depth + 1) for x in value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return any(holds_layers(x, depth + 1) for x in value)
    # Seed generators and metrics say nothing of their variables.
    parts = [] if _is_function(value) else list(getattr(value, "__dict__", {}).values())
    if any(isinstance(x, keras.Layer | keras.Variable | keras.KerasTensor) for x in parts):
        return True  # Before looking into all the others.
    inside = _inside(value)
    return any(holds_layers(x, depth + 1) for x in [*parts, *([] if inside is None else [inside])])


def _holds_functions(value) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_functions, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_holds_functions, value))
    return _is_function(value)


def _copied(value):
    """A value for the copy alone; functions and tensors never change, so they stay the same."""
    if isinstance(value, Mapping):
        return {key: _copied(x) for key, x in value.items()}
    if type(value) is tuple or isinstance(value, list):
        return (tuple if type(value) is tuple else list)(map(_copied, value))
    if isinstance(value, np.ndarray | set):
        return copy.copy(value)
    if _is_function(value) or _is_array(value) or hasattr(value, "get_config"):
        return value
    return copy.deepcopy(value) if hasattr(value, "__dict__") else value
