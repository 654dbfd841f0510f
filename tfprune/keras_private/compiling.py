"""What a model was compiled with."""

from __future__ import annotations

from typing import Any

import keras


def compile_arguments(model: keras.Model) -> dict[str, Any]:
    """The arguments that `compile` was given, as objects, not serialized.

    Assumes: a compiled model keeps them in `_compile_config.config`.
    """
    return dict(model._compile_config.config)
