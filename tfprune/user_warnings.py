"""Warnings that point to the line of the user's program, not into the library."""

from __future__ import annotations

import sys
import warnings

# Whose frames lie between the user's line and what warns.
_LIBRARIES = {
    *("keras", "keras_hub", "tensorflow", "jax", "tfprune"),
    *("concurrent", "contextlib", "functools", "threading"),
}


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warns at the innermost line that is in neither this package nor Keras, such as `model.fit`.

    Python shows that line with the warning, and shows a warning once for each such line.

    Args:
        message: What is said.
        category: The class of the warning.
    """
    warnings.warn(message, category, stacklevel=1 + _levels_to_user())


def _levels_to_user():
    """How many frames above this function's caller the user's line is; 1 where there is none."""
    frame, level = sys._getframe(2), 1
    while frame.f_globals.get("__name__", "").partition(".")[0] in _LIBRARIES:
        if frame.f_back is None:
            return 1
        frame, level = frame.f_back, level + 1
    return level
