"""Methods of one object, or values, that are replaced for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_MISSING = object()


def replace(target: Any, name: str, function: Any) -> Callable[[], None]:
    """Replaces a method or another attribute of one object; its class stays.

    Assumes: nothing but Python's lookup of attributes finds the methods of layers and models.

    Args:
        target: The object.
        name: Name of the method.
        function: What is called instead, without the object as its first argument; or a value.

    Returns:
        Function of no argument that sets back what was there.
    """
    attributes = vars(target)  # Past Keras, which would track what is set.
    before = attributes.get(name, _MISSING)
    attributes[name] = function

    def set_back():
        if before is _MISSING:
            attributes.pop(name, None)
        else:
            attributes[name] = before

    return set_back


@contextmanager
def replaced(target: Any, name: str, function: Callable) -> Iterator[None]:
    """`replace` for the time of a `with` block."""
    set_back = replace(target, name, function)
    try:
        yield
    finally:
        set_back()
