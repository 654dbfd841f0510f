"""How KerasHub finds out what is in the folder of a preset."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any


def look_through(stands_for: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Lets `from_preset` take some serialized objects for those that they stand for.

    Without it KerasHub finds no task for a class that it does not know. What it loads stays what
    the folder says.

    Assumes: `preset_utils.check_config_class` is what every `from_preset` asks for the class of a
    serialized object, by its registered name alone, and is looked up when it is called.

    Args:
        stands_for: Gives the serialized object to go by, by default the one that it was given.
    """
    from keras_hub.src.utils import preset_utils

    plain = preset_utils.check_config_class
    if hasattr(plain, "tfprune_looks_through"):
        return

    @wraps(plain)
    def check_config_class(config):
        return plain(stands_for(config))

    vars(check_config_class)["tfprune_looks_through"] = True
    preset_utils.check_config_class = check_config_class
