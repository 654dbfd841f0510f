"""The best epoch of a fit is one of the pruned model."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from tfprune.keras_private.fits import best_so_far, forget_best, keeps_best
from tfprune.user_warnings import warn


class BestEpochs:
    """Lets callbacks that keep the best epoch look for it anew once the model is another one.

    An epoch of the whole model is usually better than all those after groups were pruned. Restored
    at the end, its weights would lose those groups without any training after it; kept in a file,
    they would be those of a model that is not pruned.

    Args:
        callbacks: All callbacks of a fit.
    """

    def __init__(self, callbacks: Sequence[keras.callbacks.Callback]):
        # A threshold that the user has set, or what an earlier fit has reached, stays.
        self._first = [(c, best_so_far(c)) for c in callbacks if keeps_best(c)]
        self._steps_are_done = self._has_changed = False
        # Whether the metrics of the present epoch, and those of its validation, are of another
        # model than the one at its end.
        self._is_mixed = self._validation_is_old = False

    def begin_epoch(self) -> None:
        """An epoch begins."""
        self._steps_are_done = False

    def end_steps(self) -> None:
        """The steps of an epoch are done, and its metrics known."""
        self._steps_are_done = True

    def model_changed(self, before_first_step: bool = False) -> None:
        """What is trained is another model from here on.

        Args:
            before_first_step: Whether no step of the present epoch is done.
        """
        self._forget(lambda callback: True)
        self._has_changed = True
        self._is_mixed |= not before_first_step
        self._validation_is_old |= self._steps_are_done

    def end_epoch(self) -> None:
        """All callbacks have seen the metrics of an epoch."""
        if self._validation_is_old:
            self._forget(lambda callback: True)
        elif self._is_mixed:
            self._forget(lambda callback: not callback.monitor.startswith("val_"))
        self._is_mixed = self._validation_is_old = False

    def warn_of_old_files(self) -> None:
        """Says which files hold an epoch from before the model changed."""
        for callback, first in self._first:
            is_file = isinstance(callback, keras.callbacks.ModelCheckpoint)
            if is_file and self._has_changed and best_so_far(callback) == first:
                warn(
                    "ModelCheckpoint has kept no epoch of the pruned model: the best file, "
                    f"{callback.filepath}, if any, is from before pruning. Let pruning end earlier "
                    "(`start`, `stop`), or save the model after the fit.",
                )

    def _forget(self, chosen):
        for callback, first in self._first:
            if chosen(callback):
                forget_best(callback, first)
