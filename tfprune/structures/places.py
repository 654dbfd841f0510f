"""Which layer of one model is which layer of another one, whatever Keras has named them.

Keras numbers the layers that are given no name: a second call of the function that makes a model
gives `dense_2` and `dense_3` where the first gave `dense` and `dense_1`. The numbers of one class
are all moved by the same amount, and a rebuilt model keeps the names that are left of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import islice, product
from typing import Any

import keras

from tfprune.keras_private.functional import operation_of
from tfprune.keras_private.layers import own_variables
from tfprune.model_parts import own_children

Places = Mapping[str, Mapping[str, Any]]
"""Path of a layer to what tells it apart; of types that JSON knows."""

_TRIES = 10_000  # Combinations of shifts that are looked at.


def places(model: keras.Layer) -> dict[str, dict[str, Any]]:
    """What tells the layers of a model apart, by path.

    Args:
        model: A built model.

    Returns:
        Path to `class`; `automatic`, whether Keras chose the last part of the path; `width`, the
        size of the last axis of the layer's own first variable; `output`, whether the layer makes
        an output of the model.
    """
    try:
        outputs = {id(operation_of(t)) for t in getattr(model, "outputs", None) or ()}
    except AttributeError:  # A subclassed model has none before it is called.
        outputs = set()
    found: dict[str, dict[str, Any]] = {}

    def walk(layer, prefix):
        for inner in own_children(layer):
            path = f"{prefix}{inner.name}"
            if path in found:
                continue
            name = type(inner).__name__
            own = own_variables(inner)
            found[path] = {
                "class": name,
                "automatic": re.fullmatch(rf"{_snake(name)}(_\d+)?", inner.name) is not None,
                "width": int(own[0].shape[-1]) if own and len(own[0].shape) else None,
                "output": id(inner) in outputs,
            }
            walk(inner, f"{path}/")

    walk(model, "")
    return found


def renaming(before: Places, after: Places) -> Callable[[str], str | None]:
    """From the names of one model to those of another one that it was made from, or like.

    Args:
        before: `places` of the model that has all layers.
        after: `places` of one of which some may be missing, and others be narrower.

    Returns:
        A function from the name of a layer or structure of `after` to its name in `before`; it
        gives `None` where that cannot be told.

    Example:

    >>> def make():
    ...     return keras.Sequential(
    ...         [keras.Input((4,)), keras.layers.Dense(3, "relu"), keras.layers.Dense(2)])
    >>> one, other = make(), make()
    >>> name = renaming(places(one), places(other))
    >>> name(other.layers[1].name) == one.layers[1].name
    True
    """
    # Names of layers without weights, such as a dropout inside attention, are made anew.
    told = [
        path
        for path, is_ in after.items()
        if is_["width"] is not None and not re.search(r"_constant_\d+$", path)
    ]
    if all(_fits(before, after, path, path) for path in told):
        return lambda name: name
    parts = _automatic_parts(after, told)
    known = _automatic_parts(before, before)
    shifts = {p: _shifts(known.get(p, set()), parts[p]) for p in parts}
    choices = []
    for combination in islice(product(*shifts.values()), _TRIES):
        moved = {
            f"{_name(p, n)}": _name(p, n - by)
            for p, by in zip(shifts, combination, strict=True)
            for n in parts[p]
        }
        if all(_fits(before, after, _moved(path, moved, after), path) for path in told):
            choices.append(moved)
    if not choices and all(len(known.get(p, ())) == len(parts[p]) for p in parts):
        # Made in another order, but as many.
        pairs = {p: zip(sorted(parts[p]), sorted(known[p]), strict=True) for p in parts}
        moved = {_name(p, a): _name(p, b) for p, both in pairs.items() for a, b in both}
        if all(_fits(before, after, _moved(path, moved, after), path) for path in told):
            choices = [moved]

    def name_of(name: str) -> str | None:
        path, colon, number = name.partition(":")
        ways = {_moved(path, moved, after) for moved in choices}
        way = ways.pop() if len(ways) == 1 else None
        return f"{way}{colon}{number}" if way in before else None

    return name_of


def _snake(name: str) -> str:
    """A class's name as Keras writes it in automatic names."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _split(name: str, class_name: str) -> tuple[str, int]:
    prefix = _snake(class_name)
    return prefix, int(name[len(prefix) + 1 :] or 0)


def _name(prefix: str, number: int) -> str:
    return f"{prefix}_{number}" if number else prefix


def _prefixes(path: str) -> Iterable[tuple[str, str]]:
    """Each part of a path, with the path up to it."""
    parts = path.split("/")
    return ((part, "/".join(parts[: i + 1])) for i, part in enumerate(parts))


def _automatic_parts(layers: Places, paths: Iterable[str]) -> dict[str, set[int]]:
    """The numbers in automatic names, by what stands before them."""
    numbers: dict[str, set[int]] = {}
    for path in paths:
        for part, upto in _prefixes(path):
            if upto in layers and layers[upto]["automatic"]:
                prefix, number = _split(part, layers[upto]["class"])
                numbers.setdefault(prefix, set()).add(number)
    return numbers


def _shifts(known: set[int], numbers: set[int]) -> list[int]:
    first = min(numbers)
    return [first - n for n in known if all(m - (first - n) in known for m in numbers)]


def _moved(path: str, moved: Mapping[str, str], layers: Places) -> str:
    return "/".join(
        moved.get(part, part) if upto in layers and layers[upto]["automatic"] else part
        for part, upto in _prefixes(path)
    )


def _fits(before: Places, after: Places, old: str, new: str) -> bool:
    """Whether one layer can be what is left of another one."""
    if old not in before:
        return False
    was, is_ = before[old], after[new]
    narrower = was["width"] is None or is_["width"] <= was["width"]
    return narrower and (was["output"] or not is_["output"] or not _has_output(before))


def _has_output(layers: Places) -> bool:
    return any(layer["output"] for layer in layers.values())
