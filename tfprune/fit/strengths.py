"""One strength for all structures, or one for each part of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tfprune.arguments import called_with_one
from tfprune.penalties import checked_strength
from tfprune.structures import Structures


def checked_strengths(strength: Any) -> Any:
    """A number, a dictionary from patterns to numbers, or a function, if it is one of these.

    Raises:
        ValueError: If a number is negative or not finite, a dictionary holds none or a key that is
            no pattern, or a function cannot be called with a step.
    """
    if isinstance(strength, Mapping):
        if not strength or not all(isinstance(pattern, str) for pattern in strength):
            raise ValueError(
                "`strength` must be a number, a function of the step, or a dictionary from kinds, "
                "names or regular expressions to numbers, such as {'ffn': 0.1}. Received: "
                f"strength={strength!r}"
            )
        return {pattern: checked_strength(value) for pattern, value in strength.items()}
    if callable(strength):
        return called_with_one("strength", strength, "the step")
    return checked_strength(strength)


def strength_of_each(
    strength: float | Mapping[str, float] | Callable, structures: Structures
) -> list[Any]:
    """The strength of each structure; the last pattern that matches counts, 0 if none does.

    Raises:
        ValueError: If a pattern matches nothing.
    """
    if not isinstance(strength, Mapping):
        return [strength] * len(structures)
    chosen = dict.fromkeys((s.name for s in structures), 0.0)
    for pattern, value in strength.items():
        chosen.update({s.name: value for s in structures.select([pattern])})
    return list(chosen.values())
