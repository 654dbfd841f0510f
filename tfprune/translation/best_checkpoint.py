"""Training until a metric stalls, of which the best epoch is kept."""

from __future__ import annotations

import json
import os
from pathlib import Path

import keras

from tfprune.arguments import integer, number
from tfprune.files import atomic_write
from tfprune.schedules import Plateau


class BestCheckpoint(keras.callbacks.Callback):
    """Ends a fit when a metric stalls, and sets the model back to its best epoch.

    Beside Keras's `EarlyStopping` it goes on counting in a fit that `BackupAndRestore` continues,
    and sets back the optimizer too. It stands behind the callback that writes the metric.

    Args:
        path: File for the history of the metric. The weights and the optimizer of the best epoch
            are kept beside it until the fit ends.
        plateau: The metric, and the gain that is still worth going on for.
        patience: The fit ends when the best of so many epochs gains less than that over the best
            epoch before them.
        untrained: What the metric is before training, such as a BLEU of 0. Until the metric has
            gained `min_delta` over it, it has not begun to rise and does not stall. `None` looks
            from the first epoch on.

    Source: Behnke & Heafield, WMT 2021, section 4: pretraining ends when BLEU gains less than one
    point from one checkpoint to the next.

    Example:

    >>> import keras, numpy as np, tempfile
    >>> from tfprune.schedules import Plateau
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.0), "mse")
    >>> path = tempfile.mkdtemp() + "/history.json"
    >>> stop = BestCheckpoint(path, Plateau("loss", 0.1), patience=2)
    >>> x = np.ones((4, 2))
    >>> len(model.fit(x, x[:, :1], epochs=9, verbose=0, callbacks=[stop]).epoch)
    3
    >>> BestCheckpoint.best_epoch(path)
    1
    """

    def __init__(
        self,
        path: str | os.PathLike,
        plateau: Plateau,
        patience: int = 1,
        untrained: float | None = None,
    ):
        super().__init__()
        self.path = Path(path)
        self.plateau = plateau
        self.patience = integer("patience", patience)
        self.untrained = number("untrained", untrained, optional=True)

    @staticmethod
    def best_epoch(path: str | os.PathLike) -> int:
        """How many epochs the model was trained for when it was best, from the history."""
        return json.loads(Path(path).read_text())["best_epoch"]

    @property
    def _weights(self):
        return self.path.with_suffix(".weights.h5")

    def on_epoch_end(self, epoch, logs=None):
        """Keeps the model if it is the best up to now; ends the fit if the metric has stalled."""
        if self.plateau.monitor not in (logs or {}):
            raise ValueError(
                f"`monitor` is {self.plateau.monitor!r}, which is not in the epoch logs. Put the "
                "callback that writes it before this one. The logs hold: " + ", ".join(logs or {})
            )
        # What a killed fit has noted of an epoch that is now trained once more is left out.
        before = json.loads(self.path.read_text())["history"][:epoch] if epoch else []
        history = [*before, float(logs[self.plateau.monitor])]
        best = self._best(history)
        if best == epoch:
            with atomic_write(self._weights) as temporary:
                self.model.save_weights(temporary)
        with atomic_write(self.path) as temporary:
            kept = {"monitor": self.plateau.monitor, "history": history, "best_epoch": best + 1}
            temporary.write_text(json.dumps(kept) + "\n")
        if self._has_stalled(history):
            self.model.stop_training = True

    def _has_stalled(self, history):
        earlier, late = history[: -self.patience], history[-self.patience :]
        if not earlier:
            return False
        before, now = earlier[self._best(earlier)], late[self._best(late)]
        enough = self.plateau.min_delta
        if self.untrained is not None and self.plateau.gain(self.untrained, before) < enough:
            return False
        return self.plateau.gain(before, now) < enough

    def _best(self, history):
        """The first of the epochs that are as good as any."""
        best = 0
        for epoch, value in enumerate(history):
            if self.plateau.gain(history[best], value) > 0:
                best = epoch
        return best

    def on_train_end(self, logs=None):
        """Sets the weights and the optimizer back to the best epoch."""
        self.model.load_weights(self._weights)
        self._weights.unlink()
