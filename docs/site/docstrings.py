"""Docstrings as the site shows them.

`>>>` would begin a quotation in Markdown, so examples are fenced. A method that a class overrides
is described once, where it is first defined.
"""

from __future__ import annotations

import re

import griffe

# From the first prompt to the next empty line.
_EXAMPLE = re.compile(r"^([ \t]*)>>> .*?(?=\n[ \t]*\n|\Z)", re.M | re.S)
# What Keras calls; griffe does not read Keras.
_OF_KERAS = re.compile(r"on_(train|test|epoch)\w*|set_model|get_config|from_config")


def fenced(docstring):
    """The docstring with its examples between fences."""

    def fence(match):
        return f"{match[1]}```pycon\n{match[0].rstrip()}\n{match[1]}```"

    return _EXAMPLE.sub(fence, docstring)


class Docstrings(griffe.Extension):
    """Prepares every docstring that is read."""

    def on_object(self, *, obj, **_):
        """Called for each module, class, function and attribute."""
        if not obj.docstring:
            return
        obj.docstring.value = fenced(obj.docstring.value)
        # griffe knows no arguments of a named tuple, only its fields.
        if obj.is_class and any(str(base) == "NamedTuple" for base in obj.bases):
            obj.docstring.value = obj.docstring.value.replace("Args:\n", "Attributes:\n", 1)

    def on_package(self, *, pkg, **_):
        """Called when all of the package has been read."""
        for found in classes(pkg):
            inherited = {name for base in found.mro() for name in base.members}
            for name, member in found.members.items():
                of_keras = member.is_function and _OF_KERAS.fullmatch(name)
                if name in inherited or of_keras:
                    member.docstring = None  # Without one it is not shown.


def classes(module):
    """All classes of a module and of those in it."""
    for member in module.members.values():
        if member.is_alias:
            continue
        if member.is_class:
            yield member
        elif member.is_module:
            yield from classes(member)
