"""Fetches and unpacks Debian packages; nothing is installed."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from tfprune.user_warnings import warn

# The files from which the results in benchmarks/results come, and their SHA-256.
TESTED = {
    "dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb": (
        "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0"
    ),
    "libreoffice-help-de_4%3a7.4.7-1+deb12u14_all.deb": (
        "00490b63c509ac96f7f212d6a6e40452d3e0d1f97ccf4b824dd5ec4c01e8277f"
    ),
    "libreoffice-help-en-us_4%3a7.4.7-1+deb12u14_all.deb": (
        "8faa840285734d6cfe1ed25537b48f07e74bd6412e3917bf8e5f8a653f7b3712"
    ),
    "libreoffice-help-es_4%3a7.4.7-1+deb12u14_all.deb": (
        "9128a84d83d92c8b1c618d90469d16affddb7d1290b09d42a0c5109cb16f0480"
    ),
    "libreoffice-help-fr_4%3a7.4.7-1+deb12u14_all.deb": (
        "c796530d3e95af1ea4d054076682efc8aad2b569ae9513f3d4a776b2df3fd206"
    ),
    "libreoffice-l10n-de_4%3a7.4.7-1+deb12u14_all.deb": (
        "aee22c8e3b3c0431f6e1b0bc66f757ba36c860e2651a05eb050fde4897f06548"
    ),
}


def fetch_packages(packages: list[str], temporary: Path) -> Path:
    """Downloads Debian packages with the package manager and unpacks them.

    `apt-get download` compares each with the hash in its signed lists, and leaves these as they
    are. A mirror has no other version than the newest of its release, so a version that was not
    tested is taken, and said.

    Args:
        packages: Their names.
        temporary: The folder to unpack them in.

    Returns:
        The folder.

    Raises:
        RuntimeError: If they cannot be fetched, or one is not the file that was tested under its
            name.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise RuntimeError(
            f"The data come from the Debian packages {', '.join(packages)}, and this machine has "
            "no apt-get. Fetch and unpack them elsewhere and pass `folder=`; `number_words()` is "
            "text that needs no download."
        )
    temporary.mkdir(parents=True, exist_ok=True)
    command = ["apt-get", "download", *packages]
    result = subprocess.run(command, cwd=temporary, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(
            f"`{' '.join(command)}` failed: {result.stderr.strip()} If its lists are missing or "
            "old, run `apt-get update` with the rights it needs; or unpack the packages elsewhere "
            "and pass `folder=`."
        )
    files = sorted(temporary.glob("*.deb"))
    for file in files:
        _check(file)
    for file in files:
        subprocess.run(["dpkg-deb", "-x", str(file), str(temporary)], check=True)
    return temporary


def _check(file: Path) -> None:
    expected = TESTED.get(file.name)
    if expected is None:
        warn(
            f"{file.name} is another version than the one that was tested; what it holds, and "
            "what is learned from it, may differ a little from the results in the documentation.",
        )
        return
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != expected:
        raise RuntimeError(
            f"{file.name} is not the file that was tested: its SHA-256 is {found} instead of "
            f"{expected}. It was not read. Unpack the package elsewhere and pass `folder=`."
        )
