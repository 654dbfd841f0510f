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
    changed = False
    for name in ("mean", "variance"):
        wanted, found = getattr(old, name), getattr(new, name)
        # Equal ones are left alone: in half precision they are coarser than the variables.
        if not bool(keras.ops.all(keras.ops.equal(wanted, found))):
            variable = getattr(new, f"adapt_{name}")
            variable.assign(
                keras.ops.reshape(keras.ops.cast(wanted, variable.dtype), variable.shape)
            )
            changed = True
    if changed:
        new.finalize_state()
