"""The first and the last callback of a fit, which begin and end what its owner does."""

from __future__ import annotations

from typing import Any

import keras

from tfprune.keras_private.fits import is_backup


class FitBegin(keras.callbacks.Callback):
    """The first in the list of callbacks.

    Args:
        owner: The `FitOwner`.
    """

    def __init__(self, owner):
        super().__init__()
        self.owner = owner

    def on_train_begin(self, logs=None):
        """Attaches what pruning needs, before any other callback acts."""
        self.owner.begin()

    def on_epoch_begin(self, epoch, logs=None):
        """Sees what Keras's callbacks keep of the best epoch."""
        self.owner.best_epochs.begin_epoch()

    def on_epoch_end(self, epoch, logs=None):
        """Ends the steps of the epoch, before any callback sees the epoch's end."""
        self.owner.best_epochs.end_steps()
        for callback in self.owner.callbacks:
            callback.end_steps()


class FitEnd(keras.callbacks.Callback):
    """The last in the list of callbacks.

    Args:
        owner: The `FitOwner`.
    """

    def __init__(self, owner):
        super().__init__()
        self.owner = owner

    def on_epoch_end(self, epoch, logs=None):
        """Sees what Keras's callbacks have kept of this epoch."""
        self.owner.best_epochs.end_epoch()

    def on_train_end(self, logs=None):
        """Ends pruning, and removes what is attached."""
        self.owner.finish()


def owner_in(listed: keras.callbacks.CallbackList) -> Any:
    """The `FitOwner` whose callbacks are in a list, or `None`."""
    return next((c.owner for c in reversed(listed.callbacks) if isinstance(c, FitEnd)), None)


def put_around(listed: keras.callbacks.CallbackList, owner: Any) -> None:
    """Puts the first and the last callback around those of a list.

    Args:
        listed: The callbacks of a fit.
        owner: The `FitOwner` of that fit.
    """
    first, last = FitBegin(owner), FitEnd(owner)
    listed.callbacks.insert(0, first)
    listed.callbacks.append(last)
    first.set_model(owner.model)
    last.set_model(owner.model)


def put_backups_last(listed: keras.callbacks.CallbackList) -> None:
    """Lets `BackupAndRestore` save what all others have done at the end of an epoch.

    Args:
        listed: The callbacks of a fit, of which the last is a `FitEnd`.
    """
    backups = [c for c in listed.callbacks if is_backup(c)]
    others = [c for c in listed.callbacks if not is_backup(c)]
    # The list itself is changed while Keras goes through it; it is at the first entry.
    listed.callbacks[:] = [*others[:-1], *backups, others[-1]]
