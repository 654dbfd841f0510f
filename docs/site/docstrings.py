"""Docstrings as the site shows them: `>>>` would begin a quotation in Markdown."""

from __future__ import annotations

import re

import griffe

# From the first prompt to the next empty line.
_EXAMPLE = re.compile(r"^([ \t]*)>>> .*?(?=\n[ \t]*\n|\Z)", re.M | re.S)


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
