"""Fetches and unpacks Debian packages; nothing is installed."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from tfprune.user_warnings import warn

# The files that were read in tests and for the results in benchmarks/results, and their SHA-256.
TESTED = {
    "bsdextrautils_2.38.1-5+deb12u3_amd64.deb": (
        "c949c638bc238b51030bd4758ae310feab9a535c06328934e2f643b0e6e5ac82"
    ),
    "coreutils_9.1-1_amd64.deb": (
        "61038f857e346e8500adf53a2a0a20859f4d3a3b51570cc876b153a2d51a3091"
    ),
    "dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb": (
        "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0"
    ),
    "fdisk_2.38.1-5+deb12u3_amd64.deb": (
        "a7bf5a6fee968c3bebeb37b13396ed195c59459e4631271bb3acac0d9cf42491"
    ),
    "findutils_4.9.0-4_amd64.deb": (
        "5dd86bd0af4aa73f067dfd6b8339dd868f2dd84056aa79db29d1206d4fbc5e04"
    ),
    "gettext_0.21-12_amd64.deb": (
        "8c1f9d43575373ce311f51d00a13afbb4888d63aa559a93a3472f5d77513b60c"
    ),
    "groff-base_1.22.4-10_amd64.deb": (
        "3de38b55bcccbdaf56c030d5011c6afc76bf6fdc8986ae4f1b2087eef0ddcad0"
    ),
    "less_590-2.1~deb12u2_amd64.deb": (
        "3c4ee8ce5e0f625e1169da9584e309c375a8a68e22de5821461d14446825cc1a"
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
    "libsane-common_1.2.1-2_all.deb": (
        "03d6cbec79646f5308b65489e02431d7e5f32079bbf31e2eac95f72973e4b9c9"
    ),
    "manpages-de-dev_4.18.1-1_all.deb": (
        "cb3d7c10977dd3c811065d89e0d912196ec5e6f2551308edb0ba72e02da838d7"
    ),
    "manpages-de_4.18.1-1_all.deb": (
        "37d2e7ee51f22952aecec3af93647ff59194a3c74bb7a694560f49c7f7ab3978"
    ),
    "manpages-dev_6.03-2_all.deb": (
        "96f55cb5e26231d5567c89b692bced63825a14a2d5bd18fdf16ea2ed44eb9838"
    ),
    "manpages-es-dev_4.18.1-1_all.deb": (
        "1c2e676050bc87ecd5b4fafa00e7365504aaaf5d64645ef9989e907e5612a322"
    ),
    "manpages-es_4.18.1-1_all.deb": (
        "d21e9f85e487f149ae45b5c525b2b1a70ae7fd38d4b05b47c8753042c66f4c2b"
    ),
    "manpages-fr-dev_4.18.1-1_all.deb": (
        "25f5a53208d92f0a69a89e349edfb3068e6e6e4e0673fe712dd0d3b0c5b1512d"
    ),
    "manpages-fr_4.18.1-1_all.deb": (
        "ec29759cc0e4a44dc7719c1e32869d0060667049e584f09556f0d982b969ea33"
    ),
    "manpages_6.03-2_all.deb": ("efa1ba4cd19ad7baeae959c9209a7eb74be2ebb858bcabb412597bfc9f588c91"),
    "mount_2.38.1-5+deb12u3_amd64.deb": (
        "456ed2c62f884bc1133b6969d4d1eb2e6d8581076b00b4c8d700151155270a7a"
    ),
    "mtools_4.0.33-1+really4.0.32-1_amd64.deb": (
        "972e0857ff43dbfc4c9255844c97b5d2cb0287720216d04c95b4e7fa483aec99"
    ),
    "mutt_2.2.12-0.1~deb12u1_amd64.deb": (
        "fadc0196d1862176f07bcb2f31ca18f9c777a6854a6e99d43d3d585bca04c6f0"
    ),
    "nano_7.2-1+deb12u1_amd64.deb": (
        "45a9b3960aa5ac18552459225ec26800abb73fc2edd11626046daf6d968ac968"
    ),
    "nfs-common_1%3a2.6.2-4+deb12u1_amd64.deb": (
        "8ae6f0db37efdbefbf5f201d085d057596b0464232c8de78e57a278bcf2bf0ee"
    ),
    "systemd-boot_252.39-1~deb12u2_amd64.deb": (
        "b80dbae53e1b1ca78fdd949f3d5a1c6518901464376fb0b4a8e2cd9137a92e4f"
    ),
    "systemd-container_252.39-1~deb12u2_amd64.deb": (
        "9e620435592afcd65a3f19a3bab0027f3e715626294560ea8919b15af3c38021"
    ),
    "systemd-homed_252.39-1~deb12u2_amd64.deb": (
        "a502f8475eb3d542ba212b8b13291917ec837af76e58fa4d9c806c8580994c2d"
    ),
    "systemd_252.39-1~deb12u2_amd64.deb": (
        "286f879c537bfba92e59d580c075ad20ab49020244c79634656850a306dd462b"
    ),
    "tar_1.34+dfsg-1.2+deb12u1_amd64.deb": (
        "24fb92e98c2969171f81a8b589263d705f6b1670f95d121cd74c810d4605acc3"
    ),
    "udev_252.39-1~deb12u2_amd64.deb": (
        "7593d55752f2d7f20fefc5564ead8b10a536bc945f96d942e1c976f2154281cb"
    ),
    "util-linux_2.38.1-5+deb12u3_amd64.deb": (
        "8eb241ff24b2e1ee9c0373f4fc9bc728b85bf5966c1496154df7da01c0e42f34"
    ),
    "vorbis-tools_1.4.2-1+b1_amd64.deb": (
        "3645cb7976a0f7573ff3a839e818c586b7a771cc05135e1bf05a5848cd7fc381"
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
    _check(files)
    for file in files:
        subprocess.run(["dpkg-deb", "-x", str(file), str(temporary)], check=True)
    return temporary


def _check(files: list[Path]) -> None:
    others = [file.name for file in files if file.name not in TESTED]
    if others:
        warn(
            f"Not the files that were tested: {', '.join(others)}. What they hold, and what is "
            "learned from it, may differ a little from the results in the documentation.",
        )
    for file in files:
        if file.name in TESTED:
            _check_content(file)


def _check_content(file: Path) -> None:
    expected = TESTED[file.name]
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != expected:
        raise RuntimeError(
            f"{file.name} is not the file that was tested: its SHA-256 is {found} instead of "
            f"{expected}. It was not read. Unpack the package elsewhere and pass `folder=`."
        )
