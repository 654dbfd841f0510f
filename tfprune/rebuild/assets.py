"""What a layer keeps besides its variables: vocabularies, and what `adapt` has learned."""

from __future__ import annotations

import os
import tempfile

import keras


def give_assets(old: keras.Layer, new: keras.Layer) -> None:
    """Copies a layer's vocabulary or statistics to its copy, once the variables are copied.

    A configuration holds neither; Keras saves them as assets, which is how they travel here.

    Args:
        old: A layer.
        new: A layer made from its configuration.
    """
    if hasattr(old, "save_assets"):
        with tempfile.TemporaryDirectory() as folder:
            old.save_assets(folder)
            if os.listdir(folder):
                new.load_assets(folder)
    if hasattr(new, "finalize_state"):  # Adapted statistics are read from the variables here.
        new.finalize_state()
