"""The call of a layer that is running: whether it trains, and which models are at work."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import keras
from keras.src.backend.common import global_state

from tfprune.keras_private.fits import frames


def trains() -> bool:
    """Whether the layers that are called now are called in training.

    A layer may have no argument for it, such as one that looks up embeddings.

    Assumes: `Layer.__call__` resolves `training` for each layer, from its own arguments or from
    those of the layers around it, and keeps it in the global attribute `current_call_ctx`.
    """
    context = global_state.get_global_attribute("current_call_ctx")
    return False if context is None else bool(context.get_value("training", False))


def models_at_work() -> Iterator[keras.Model]:
    """The models of which a method is running, such as the one whose step is being compiled.

    Assumes: methods call their first argument `self`, and functions inside them use that name.
    """
    for frame in frames(sys._getframe(1)):
        code = frame.f_code
        if "self" in code.co_varnames[:1] or "self" in code.co_freevars:
            caller = frame.f_locals.get("self")
            if isinstance(caller, keras.Model):
                yield caller
