"""The saved form of a model that was cut in place: how it is named, and how it is recognised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

REGISTERED_NAME = "tfprune>Pruned"
# Stands in files for the name of the class. Where tfprune is not imported, Keras quotes it.
DESCRIPTION = "a model that tfprune made smaller, which needs `import tfprune` before it is loaded"


def is_pruned_form(config: Any) -> bool:
    """Whether a serialized object is one of a class that keeps its cuts.

    Args:
        config: What `keras.saving.serialize_keras_object` returned, or a part of it.
    """
    if not isinstance(config, Mapping) or not isinstance(config.get("config"), Mapping):
        return False
    named = config.get("registered_name") == REGISTERED_NAME
    return named or config.get("class_name") == DESCRIPTION
