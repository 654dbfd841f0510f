"""SavedModel folders."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
from keras import tree

from tfprune.export.inputs import signature
from tfprune.keras_private.functional import inputs_struct

_SAVED_MODEL = {"saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra"}
_VARIABLES = re.compile(r"variables\.(index|data-\d{5}-of-\d{5})")


def is_saved_model(folder: Path) -> bool:
    """Whether a folder holds a SavedModel and nothing else.

    Files that TensorFlow did not write may lie in the folders of its own, too.
    """
    content = {entry.name for entry in folder.iterdir()}
    if "saved_model.pb" not in content or not content <= _SAVED_MODEL:
        return False
    return (
        all(_VARIABLES.fullmatch(name) for name in _inside(folder / "variables"))
        and _inside(folder / "assets") <= _assets(folder / "saved_model.pb")
        and not _inside(folder / "assets.extra")  # They are never TensorFlow's.
    )


def _inside(folder: Path) -> set[str]:
    """The paths of all files and empty folders below a folder."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if not path.is_dir() or path.is_symlink() or not any(path.iterdir())
    }


def _assets(file: Path) -> set[str]:
    """The assets that a SavedModel says it has; none if it cannot be read."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    content = saved_model_pb2.SavedModel()
    try:
        content.ParseFromString(file.read_bytes())
    except DecodeError:
        return set()
    return {asset.filename for graph in content.meta_graphs for asset in graph.asset_file_def}


def save(model: keras.Model, folder: Path) -> None:
    """Writes the SavedModel of a model, unchecked.

    Raises:
        OSError: If it cannot be written.
    """
    import tensorflow as tf

    try:
        model.export(
            str(folder),
            format="tf_saved_model",
            verbose=False,
            input_signature=signature(model),
        )
    except tf.errors.OpError as error:  # TensorFlow has classes of its own for full disks.
        raise OSError(f"The SavedModel cannot be written: {error.message}") from error


def serve_by_name(
    model: keras.Model, folder: str | os.PathLike
) -> Callable[[Sequence[np.ndarray]], Mapping[str, np.ndarray]]:
    """A function from inputs in the order of a Functional model to outputs of its SavedModel."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))

    def run(arrays):
        given = [tf.constant(a, spec.dtype) for a, spec in zip(arrays, model.inputs, strict=True)]
        outputs = loaded.serve(tree.pack_sequence_as(inputs_struct(model), given))
        if not isinstance(outputs, Mapping):
            outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
            outputs = {f"output_{number}": value for number, value in enumerate(outputs)}
        return {name: value.numpy() for name, value in outputs.items()}

    return run
