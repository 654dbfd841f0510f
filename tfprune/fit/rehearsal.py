"""Says before training what `rebuild` would refuse after it."""

from __future__ import annotations

import random
from collections.abc import Sequence

import keras
import numpy as np

from tfprune.gates import subnetworks_of
from tfprune.rebuild.rebuilding import rebuilt_by
from tfprune.structures import Structure, Structures


def rehearse_rebuild(
    model: keras.Model, found: Structures, structures: Sequence[Structure]
) -> None:
    """Rebuilds a model once without the last group of some structures, and drops the result.

    Args:
        model: A built model.
        found: Its structures.
        structures: Those of them that are to be pruned.

    Raises:
        ValueError: As `tfprune.rebuild`, if the model cannot be rebuilt.
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
        raise ValueError(f"After this fit the model could not be rebuilt. {error}") from error
    finally:
        random.setstate(state)
