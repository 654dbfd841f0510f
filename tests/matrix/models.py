"""All models of the matrix, by group and name."""

from __future__ import annotations

from collections.abc import Callable

from tests.matrix.case import Case


def groups() -> dict[str, dict[str, Callable[[], Case]]]:
    """Group to name to a function that makes the model. Names are unique."""
    from tests.matrix import applications, hub, tutorials

    return {
        "KerasHub backbones": hub.BACKBONES,
        "KerasHub tasks": hub.TASKS,
        "keras.applications": applications.MODELS,
        "Tutorials": tutorials.MODELS,
    }
