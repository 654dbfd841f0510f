"""The call of a layer that is running: whether it trains, and whose step is being compiled."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import keras
from keras.src.backend.common import global_state

from tfprune.keras_private.fits import frames

# The methods of a model that compile a step, and run it.
RUN_COMPILED_STEPS = (
    "fit",
    "evaluate",
    "predict",
    "train_on_batch",
    "test_on_batch",
    "predict_on_batch",
)


def trains() -> bool:
    """Whether the layers that are called now are called in training.

    A layer may have no argument for it, such as one that looks up embeddings.

    Assumes: `Layer.__call__` resolves `training` for each layer, from its own arguments or from
    those of the layers around it, and keeps it in the global attribute `current_call_ctx`.
    """
    context = global_state.get_global_attribute("current_call_ctx")
    return False if context is None else bool(context.get_value("training", False))


def compiling_models() -> Iterator[keras.Model]:
    """The models whose step is being compiled where a layer is called inside it.

    Assumes: it is compiled inside the method that runs it, whose first argument is called `self`;
    what a callback does is called from a method of a `CallbackList`, and is not part of the step of
    the fit that has the callback.
    """
    for frame in frames(sys._getframe(1)):
        is_method = frame.f_code.co_varnames[:1] == ("self",)
        caller = frame.f_locals.get("self") if is_method else None
        if isinstance(caller, keras.callbacks.CallbackList):
            return
        if frame.f_code.co_name in RUN_COMPILED_STEPS and isinstance(caller, keras.Model):
            yield caller
