"""What a benchmark says while it trains."""

import keras


class Log(keras.callbacks.Callback):
    """One line an epoch.

    Args:
        name: Name of the run.
    """

    def __init__(self, name):
        super().__init__()
        self.name = name

    def on_epoch_end(self, epoch, logs=None):
        """Prints it, without what is logged for single layers."""
        figures = {k: round(float(v), 4) for k, v in logs.items() if k.count("/") < 2}
        print(self.name, epoch + 1, figures, flush=True)
