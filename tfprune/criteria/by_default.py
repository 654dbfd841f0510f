"""The criterion that `tfprune.prune` takes where none is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
from keras import tree

from tfprune.criteria.consumers import ARE_READ, is_read_as_input
from tfprune.criteria.gradients import has_own_loss
from tfprune.keras_private.compiling import compile_arguments
from tfprune.structures import Structures

_NAMED = 5
"""So many structures are named in a message."""


@dataclass(frozen=True)
class ByDefault:
    """Which criterion scores which structures.

    Args:
        name: The name of the criterion.
        others: The structures that it cannot score, for `"magnitude"`.
        note: What the user should know about that; empty where there is nothing.
    """

    name: str
    others: Structures
    note: str = ""


def by_default(
    model: keras.Model, structures: Structures, batch: Sequence, is_fitted: bool, by_layer: bool
) -> ByDefault:
    """The best criterion for which there is all that it needs.

    Args:
        model: A built model.
        structures: The structures to score, at least one.
        batch: x of some data, and perhaps labels.
        is_fitted: Whether weights that stay are fitted by least squares afterwards.
        by_layer: Whether no layer need be ranked against another one, so that two criteria can be
            used side by side.

    Returns:
        The criterion, and what it cannot score.
    """
    others = Structures([s for s in structures if not is_read_as_input(s)])
    if is_fitted and not len(others):
        return ByDefault("reconstruction", others)
    has_labels = any(y is not None for y in tree.flatten(tuple(batch[1:2])))
    has_loss = model.compiled and compile_arguments(model).get("loss") is not None
    if model.compiled and (has_own_loss(model) or (has_loss and has_labels)):
        return ByDefault("gradient_importance", Structures([]))
    name = "reconstruction" if is_fitted else "activation"
    if not len(others):
        return ByDefault(name, others)
    both = by_layer and len(others) < len(structures)
    note = _note(name, others, both)
    return ByDefault(name, others, note) if both else ByDefault("magnitude", Structures([]), note)


def _note(name: str, others: Structures, both: bool) -> str:
    names = ", ".join(s.name for s in others[:_NAMED]) + ", …" * (len(others) > _NAMED)
    what = (
        "These are scored by 'magnitude', which often costs more quality, and each loses the same "
        "share"
        if both
        else "All are scored by 'magnitude' instead, which often costs more quality"
    )
    return (
        f"{names} cannot be scored by {name!r}, which takes structures {ARE_READ}. {what}. "
        "Give labels, `data=(x, y)`, and compile the model with a loss, for "
        "'gradient_importance'; or leave these out with `structures=`."
    )
