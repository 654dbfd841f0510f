"""Install tfprune: the library, and its callbacks as `tfprune.callbacks`."""

import re
from pathlib import Path

from setuptools import find_packages, setup

REPOSITORY = "https://github.com/tfprune/tfprune"
FILES = REPOSITORY + "/blob/main/"
PICTURES = REPOSITORY.replace("github.com", "raw.githubusercontent.com") + "/main/"


def absolute_links(markdown):
    """README.md as a package index shows it: relative links lead nowhere there."""

    def absolute(match):
        picture, text, target = match.groups()
        return f"{picture}[{text}]({PICTURES if picture else FILES}{target})"

    return re.sub(r"(!?)\[([^\]]*)\]\((?!https?:|mailto:|#)([^)\s]+)\)", absolute, markdown)


library = find_packages(include=["tfprune", "tfprune.*"])

setup(
    packages=sorted({*library, "tfprune.callbacks"}),
    package_dir={"tfprune": "tfprune", "tfprune.callbacks": "callbacks"},
    long_description=absolute_links((Path(__file__).parent / "README.md").read_text("utf-8")),
    long_description_content_type="text/markdown",
)
