"""Methods of a model that first see whether a fit has left something attached."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any

import keras

from tfprune.keras_private.calls import RUN_COMPILED_STEPS
from tfprune.keras_private.methods import replace
from tfprune.overlay.saving import backing_up

# What a user calls next when a fit was interrupted.
_END_FIT = (
    *RUN_COMPILED_STEPS,
    "compile",
    "call",
    "get_weights",
    "set_weights",
    "load_weights",
    "summary",
    "count_params",
)
# What writes a model: of a fit that is running, the model as it computes now.
_WRITE = ("save", "save_weights", "export")
# What `BackupAndRestore` calls.
_OF_BACKUPS = ("save_weights", "load_weights")


def guard(model: keras.Model, owner, undo) -> None:
    """Lets the methods of a model remove what is attached once its fit is over.

    Args:
        model: The model.
        owner: The `FitOwner`.
        undo: A `contextlib.ExitStack` that removes the guards.
    """
    for name in (*_END_FIT, *_WRITE):
        undo.callback(replace(model, name, _guarded(model, name, owner)))


def _guarded(model, name, owner):
    plain = getattr(model, name)

    @wraps(plain)
    def method(*args, **kwargs):
        if owner.end_if_fit_is_over(another_fit=name == "fit"):
            return getattr(model, name)(*args, **kwargs)
        path = kwargs.get("filepath", args[0] if args else None)
        context: AbstractContextManager[Any]
        if name in _OF_BACKUPS and owner.resumes_from(path):
            context = backing_up(owner.subject)
        else:
            context = owner.suspended() if name in _WRITE else nullcontext()
        with context:
            return plain(*args, **kwargs)

    return method
