"""Methods of a model that first see whether a fit has left something attached."""

from __future__ import annotations

from functools import wraps

import keras

# What a user calls next when a fit was interrupted.
_SETTLE = (
    "fit",
    "evaluate",
    "predict",
    "train_on_batch",
    "test_on_batch",
    "predict_on_batch",
    "compile",
    "call",
    "get_weights",
    "set_weights",
    "load_weights",
    "summary",
    "count_params",
)
# What writes a model: of a fit that is running, the model as it computes now.
_WRITE = ("save", "export")


def guard(model: keras.Model, owner, undo) -> None:
    """Lets the methods of a model remove what is attached once its fit is over.

    Args:
        model: The model.
        owner: The `FitOwner`.
        undo: A `contextlib.ExitStack` that takes the guards off again.
    """
    for name in _SETTLE:
        _replace(model, name, _settling(model, name, owner), undo)
    for name in _WRITE:
        _replace(model, name, _writing(model, name, owner), undo)
    _replace(model, "save_weights", _saving_weights(model, owner), undo)


def _replace(model, name, function, undo):
    if name in vars(model):
        undo.callback(vars(model).__setitem__, name, vars(model)[name])
    else:
        undo.callback(vars(model).pop, name, None)
    vars(model)[name] = function


def _settling(model, name, owner):
    plain = getattr(model, name)

    @wraps(plain)
    def method(*args, **kwargs):
        if owner.settle(another_fit=name == "fit"):
            return getattr(model, name)(*args, **kwargs)
        return plain(*args, **kwargs)

    return method


def _writing(model, name, owner):
    plain = getattr(model, name)

    @wraps(plain)
    def method(*args, **kwargs):
        if owner.settle():
            return getattr(model, name)(*args, **kwargs)
        with owner.suspended():
            return plain(*args, **kwargs)

    return method


def _saving_weights(model, owner):
    plain = model.save_weights

    @wraps(plain)
    def save_weights(filepath, *args, **kwargs):
        if owner.settle():
            return model.save_weights(filepath, *args, **kwargs)
        if owner.resumes_from(filepath):
            return plain(filepath, *args, **kwargs)
        with owner.suspended():
            return plain(filepath, *args, **kwargs)

    return save_weights
