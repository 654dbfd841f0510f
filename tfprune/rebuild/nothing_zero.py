"""A model in which nothing is pruned is said."""

from __future__ import annotations

from collections.abc import Mapping, Sized

import keras

from tfprune.keras_private.layers import layer_and_inner_layers
from tfprune.model_parts import parts_of
from tfprune.structures import Structures
from tfprune.structures.transparent import Transparent
from tfprune.user_warnings import warn


class NothingPruned(UserWarning):
    """`rebuild` was given a model in which nothing is pruned."""


def warn_if_nothing_goes(
    model: keras.Model, structures: Structures, left: Mapping[str, Sized]
) -> None:
    """Warns if no group goes from a model that has no gates, which would say how many.

    Args:
        model: The model.
        structures: Its structures.
        left: Structure name to the groups that stay.
    """
    # Of a model with gates the largest size may be wanted, and wrappers with gates are taken off.
    if parts_of(model) or any(isinstance(x, Transparent) for x in layer_and_inner_layers(model)):
        return
    if structures and all(len(left[s.name]) == s.groups for s in structures):
        warn(
            "`rebuild`: no group of `model` is zero, so nothing is cut out. Is it the model that "
            "was trained, and was a pruning callback given to its `fit`? Groups can also be named "
            "with `keep=`, and `tfprune.prune` chooses them without training.",
            NothingPruned,
        )
