"""Presets of KerasHub that hold rebuilt models.

KerasHub looks for the class of a backbone before it loads one, and gives arguments of `from_preset`
to the configurations in the folder. So in a preset the base configuration stands at the top, with
the cuts beside it.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import keras

from tfprune.keras_private.initializing import nothing_for_random_values
from tfprune.keras_private.llama import say_that_embeddings_are_tied
from tfprune.keras_private.presets import look_through
from tfprune.rebuild.saved_form import REGISTERED_NAME, is_pruned_form

_WITH_CUTS = ("config.json", "task.json")


def install() -> None:
    """Lets KerasHub's `from_preset` load rebuilt models. KerasHub must be imported."""
    say_that_embeddings_are_tied()
    look_through(lambda config: config["config"]["base"] if is_pruned_form(config) else config)


def saving_to_preset(base: type[keras.Layer]) -> Callable:
    """The `save_to_preset` of a class that keeps its cuts.

    Args:
        base: The class without cuts; it has a `save_to_preset`.
    """

    @wraps(base.save_to_preset)
    def save_to_preset(self, preset_dir, *args, **kwargs):
        _refuse_hidden_cuts(self, preset_dir)
        with _moved_into(preset_dir) as folder:
            base.save_to_preset(self, str(folder), *args, **kwargs)
            for path in (folder / name for name in _WITH_CUTS):
                if path.exists():
                    path.write_text(
                        json.dumps(_for_presets(json.loads(path.read_text())), indent=4)
                    )

    return save_to_preset


def _for_presets(config: Any) -> Any:
    """Serialized objects, with the base configuration of those that have cuts at the top."""
    if isinstance(config, list):
        return [_for_presets(part) for part in config]
    if not isinstance(config, dict):
        return config
    if not is_pruned_form(config) or "config" not in config["config"]["base"]:
        return {key: _for_presets(part) for key, part in config.items()}
    base = dict(config["config"]["base"])
    inner = _for_presets(base.pop("config"))
    return {
        **config,
        "module": base["module"],
        "class_name": base["class_name"],
        "config": {**inner, "base": base, "cuts": config["config"]["cuts"]},
        "registered_name": REGISTERED_NAME,
    }


def _refuse_hidden_cuts(model, preset_dir) -> None:
    backbone = getattr(model, "backbone", None)
    if backbone is None or hasattr(backbone, "_cuts") or not any(model._cuts):
        return
    with nothing_for_random_values():
        whole = type(backbone).from_config(backbone.get_config())
    if [tuple(w.shape) for w in whole.weights] == [tuple(w.shape) for w in backbone.weights]:
        return
    raise ValueError(
        f"`save_to_preset` cannot save {model.name!r}: in a preset the backbone stands alone, and "
        "this one was cut as a part of its task, by an earlier version of tfprune. Received: "
        f"preset_dir={os.fspath(preset_dir)!r}. Save the model as one file: "
        '`model.save("small.keras")`.'
    )


@contextmanager
def _moved_into(target) -> Iterator[Path]:
    """A new folder whose files are moved into another one if nothing went wrong.

    KerasHub saves a backbone into the folder in which the files of its task are already.
    """
    target = Path(target).absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temporary:
        yield Path(temporary)
        for path in sorted(Path(temporary).rglob("*")):
            place = target / path.relative_to(temporary)
            if path.is_dir():
                place.mkdir(parents=True, exist_ok=True)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, place)
