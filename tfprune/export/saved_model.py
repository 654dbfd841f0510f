"""SavedModel folders."""

from __future__ import annotations

from pathlib import Path

_SAVED_MODEL = {"saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra"}


def is_saved_model(folder: Path) -> bool:
    """Whether a folder holds a SavedModel and nothing else."""
    content = {entry.name for entry in folder.iterdir()}
    return "saved_model.pb" in content and content <= _SAVED_MODEL
