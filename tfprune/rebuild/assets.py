"""What a layer keeps besides its variables: vocabularies, and what `adapt` has learned."""

from __future__ import annotations

import os
import tempfile

import keras
import numpy as np

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
    if isinstance(old, keras.layers.Normalization) and isinstance(new, keras.layers.Normalization):
        _give_statistics(old, new)
    children = zip(
        own_children(old),
        own_children(new),
        # A preprocessor makes the last of the layers inside when it is called.
        strict=False,
    )
    for before, after in children:
        give_assets(before, after)


def _give_statistics(old: keras.layers.Normalization, new: keras.layers.Normalization) -> None:
    """Makes a copy normalize with the numbers that the layer computes with.

    Those are others than its variables hold where `set_weights` wrote the variables: Keras takes
    the numbers from them in `adapt`, and when it loads a file.
    """
    if old.input_mean is not None or not old.built:
        return
    stale = False
    for name in ("mean", "variance"):
        used = keras.ops.convert_to_numpy(keras.ops.cast(getattr(old, name), "float32"))
        held, variable = getattr(old, f"adapt_{name}"), getattr(new, f"adapt_{name}")
        in_use = keras.ops.cast(keras.ops.cast(held, getattr(old, name).dtype), "float32")
        if np.array_equal(used.ravel(), keras.ops.convert_to_numpy(in_use).ravel()):
            continue
        variable.assign(used.reshape(variable.shape))
        stale = True
    if stale:
        new.finalize_state()
