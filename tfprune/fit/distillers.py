"""Pruning the student of a `keras.distillation.Distiller`."""

from __future__ import annotations

import keras

from tfprune.fit.pressure import Pressure


def is_distiller(model: keras.Model) -> bool:
    """Whether a model is Keras's distiller, whose student is what is trained."""
    distillation = getattr(keras, "distillation", None)
    return distillation is not None and isinstance(model, distillation.Distiller)


def add_penalties(distiller: keras.Model, pressure: Pressure) -> None:
    """Adds what a callback presses to a distiller's loss, which leaves regularizers out.

    Args:
        distiller: The distiller.
        pressure: The penalties.
    """
    compute = distiller.compute_loss

    def compute_loss(*args, **kwargs):
        return compute(*args, **kwargs) + pressure.penalties()

    vars(distiller)["compute_loss"] = compute_loss


def remove_penalties(distiller: keras.Model) -> None:
    """Undoes `add_penalties`."""
    vars(distiller).pop("compute_loss", None)
