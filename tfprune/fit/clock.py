"""The steps of a fit, counted by the fit itself."""

from __future__ import annotations

import keras
from keras import ops

from tfprune.model_parts import add_untrained


class FitClock(keras.Layer):
    """Counts the steps of a fit, whatever becomes of the optimizer's own count.

    That count is turned back by a search that rewinds weights, stands still where half precision
    overflows, and may advance more than once for a batch in a `train_step` of the user's own.

    It is a layer so that `BackupAndRestore` saves the count: where the data does not tell how many
    batches an epoch has, a resumed fit has it from there.

    Attributes:
        steps: Steps done, also in the part of the fit before a resume.
        epoch_start: Steps that were done when the present epoch began.
    """

    def __init__(self):
        super().__init__(name="pruning_clock", dtype="float32")
        self._saved = add_untrained(self, "steps", (), -1, dtype="int32")
        self.built = True
        self.steps = self.epoch_start = 0
        self._epoch: int | None = None
        self._steps_per_epoch: int | None = None

    @property
    def has_begun(self) -> bool:
        """Whether an epoch has begun."""
        return self._epoch is not None

    def begin_epoch(self, epoch: int, steps_per_epoch: int | None) -> None:
        """Finds its place; it is told once or more often that an epoch begins.

        Args:
            epoch: Number of the epoch; the first one is above 0 where a fit is resumed.
            steps_per_epoch: Batches of an epoch, or `None` if unknown.
        """
        self._steps_per_epoch = steps_per_epoch
        if self._epoch is None:
            saved = int(ops.convert_to_numpy(self._saved))
            self.steps = epoch * steps_per_epoch if steps_per_epoch else max(saved, 0)
        if epoch != self._epoch:
            self._epoch, self.epoch_start = epoch, self.steps

    def end_step(self, batch: int) -> None:
        """A step is done.

        Args:
            batch: Its number in the epoch, that of the last where several are done at once. Where
                `steps_per_execution` does not divide the steps of an epoch, Keras gives the last
                ones a number beyond its end.
        """
        done = batch + 1
        if self._steps_per_epoch:
            done = min(done, self._steps_per_epoch)
        self.steps = self.epoch_start + done

    def save(self) -> None:
        """Writes the count where a backup finds it; the weights must be synchronized."""
        self._saved.assign(self.steps)

    def call(self, inputs):
        """Passes its input on; it is never called."""
        return inputs
