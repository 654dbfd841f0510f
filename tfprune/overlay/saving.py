"""What is written to files while layers compute with something else than their weights.

A file is that of an ordinary model, whoever saves it: it holds the weights that the layers compute
with outside training, and nothing of what is attached to the model. A backup, from which training
is to be resumed, holds the weights that are trained, and what is attached.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar

import keras

from tfprune.model_parts import parts_in_files

_IS_BACKUP: ContextVar[bool] = ContextVar("is_backup", default=False)


@contextmanager
def backing_up(*models: keras.Model) -> Iterator[None]:
    """Makes files of weights that are saved or loaded inside a `with` block backups.

    Args:
        models: The models to which something is attached.

    Example:

    >>> import tempfile, keras, numpy as np, tfprune
    >>> from tfprune import gates
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(1)])
    >>> _ = gates.attach(model, [gates.Mask(s) for s in tfprune.find_structures(model)])
    >>> with tempfile.TemporaryDirectory() as folder, backing_up(model):
    ...     model.save_weights(f"{folder}/backup.weights.h5")
    """
    token = _IS_BACKUP.set(True)
    try:
        with ExitStack() as stack:
            for model in models:
                stack.enter_context(parts_in_files(model))
            yield
    finally:
        _IS_BACKUP.reset(token)


def is_backing_up() -> bool:
    """Whether what is saved now is a backup."""
    return _IS_BACKUP.get()
