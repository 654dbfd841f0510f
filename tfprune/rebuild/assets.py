"""What a layer keeps besides its variables: vocabularies, and what `adapt` has learned."""

from __future__ import annotations

import os
import tempfile

import keras

from tfprune.model_parts import own_children


def give_assets(old: keras.Layer, new: keras.Layer) -> None:
    """Copies vocabularies and statistics to a copy, once the variables are copied.

    It does so for the layer and those inside. A configuration holds neither; Keras saves them as
    assets, which is how they travel here.

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
    children = zip(
        own_children(old),
        own_children(new),
        # A preprocessor makes the last of the layers inside when it is called.
        strict=False,
    )
    for before, after in children:
        give_assets(before, after)
