"""Errors of other code, in one line of our own messages."""

from __future__ import annotations

import re


def in_one_line(error: BaseException, most: int = 200) -> str:
    """What an error says, in one line.

    Args:
        error: The error.
        most: How many characters at most; where there are more, an ellipsis ends it.

    Returns:
        Its first line; of an error that Keras raises around that of a layer, the first line of what
        the layer said; the name of its class if it says nothing.

    Example:

    >>> in_one_line(ValueError("It fails.\\nHere is why."))
    'It fails.'
    """
    told = re.sub(r"^Exception encountered when calling .*?\n\n", "", str(error), flags=re.DOTALL)
    # Keras colours some of what it raises; TensorFlow says where an operation ran.
    told = re.sub(r"\x1b\[[0-9;]*m|\{\{function_node .*?\}\} ?| \[Op:\w*\].*", "", told)
    lines = told.strip().splitlines()
    first = (lines or [type(error).__name__])[0]
    return first if len(first) <= most else f"{first[: most - 1].rstrip()}…"
