"""Pruning the student of a `keras.distillation.Distiller`."""

from __future__ import annotations

import keras

from tfprune.keras_private.methods import replace


def is_distiller(model: keras.Model) -> bool:
    """Whether a model is Keras's distiller, whose student is what is trained."""
    distillation = getattr(keras, "distillation", None)
    return distillation is not None and isinstance(model, distillation.Distiller)


def add_penalties(distiller: keras.Model, penalties, undo) -> None:
    """Adds penalties to a distiller's loss, which leaves out what its student adds to the loss.

    Args:
        distiller: The distiller.
        penalties: Function of no argument that returns scalars.
        undo: A `contextlib.ExitStack` that removes them.
    """
    compute = distiller.compute_loss

    def compute_loss(*args, **kwargs):
        return compute(*args, **kwargs) + sum(penalties(), 0.0)

    undo.callback(replace(distiller, "compute_loss", compute_loss))
