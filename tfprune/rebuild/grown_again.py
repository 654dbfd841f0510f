"""Groups that were pruned and have weights again are said."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np

from tfprune.structures import Structures
from tfprune.user_warnings import warn

_ATTRIBUTE = "_tfprune_pruned"


class _Pruned:
    """Structure name to a boolean array `(groups,)`, in an object that Keras does not look into."""

    def __init__(self, masks):
        self.masks = masks


def note_pruned(model: keras.Model, masks: Mapping[str, np.ndarray]) -> None:
    """Notes on a model which groups a fit has pruned.

    Args:
        model: The model.
        masks: Structure name to boolean array `(groups,)`, true for the groups that were pruned;
            what was noted of other structures before stays.
    """
    noted = vars(model).get(_ATTRIBUTE)
    vars(model)[_ATTRIBUTE] = _Pruned({**(noted.masks if noted else {}), **masks})


def warn_if_grown(model: keras.Model, structures: Structures, keep: Mapping | None) -> None:
    """Warns of groups that a fit has pruned and that have weights again.

    Args:
        model: The model.
        structures: Its structures.
        keep: As in `rebuild`; structures that it names are cut as it says.
    """
    noted = vars(model).get(_ATTRIBUTE)
    if noted is None:
        return
    grown = {}
    for s in structures:
        pruned = noted.masks.get(s.name)
        if s.name in (keep or {}) or pruned is None or len(pruned) != s.groups:
            continue
        number = int(np.count_nonzero(pruned & (s.norms() > 0)))
        if number:
            grown[s.name] = number
    if grown:
        names = ", ".join(f"{n} of {name}" for name, n in list(grown.items())[:3])
        names += ", …" * (len(grown) > 3)
        warn(
            f"`rebuild`: {sum(grown.values())} groups that were pruned have weights again and stay "
            f"({names}): the model was trained further, or other weights were set, since then. "
            "Call `rebuild` right after the fit that prunes, and train the smaller model.",
        )
