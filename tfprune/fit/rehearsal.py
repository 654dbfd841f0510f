"""Says before training what `rebuild` could not copy after it."""

from __future__ import annotations

import random
from collections.abc import Sequence

import keras
import numpy as np

from tfprune.gates import subnetworks_of
from tfprune.rebuild.rebuilding import check_in_place, rebuilt_by
from tfprune.structures import Structure, Structures
from tfprune.user_warnings import warn


def rehearse_rebuild(
    model: keras.Model, found: Structures, structures: Sequence[Structure]
) -> None:
    """Rebuilds a model once without the last group of some structures, and drops the result.

    Where no copy can be made, but the model itself could be cut, that is said in a warning.

    Args:
        model: A built model.
        found: Its structures.
        structures: Those of them that are to be pruned.

    Raises:
        ValueError: As `tfprune.rebuild`, if the model can neither be copied nor be cut in place.
    """
    if subnetworks_of(model) is not None:
        return  # Which of them is meant is not known yet.
    keep = {
        s.name: np.arange(s.groups) < s.groups - 1 for s in structures if s.groups > max(s.least, 1)
    }
    state = random.getstate()  # Keras draws the seeds of new layers from it.
    try:
        rebuilt_by(model, found, keep, others_stay=True)
    except ValueError as error:
        try:
            check_in_place(model, found, keep)
        except ValueError:
            raise ValueError(f"After this fit the model could not be rebuilt. {error}") from error
        warn(f"After this fit {error}")
    finally:
        random.setstate(state)
