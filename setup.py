"""Install tfprune: the library, and its callbacks as `tfprune.callbacks`."""

from setuptools import find_packages, setup

library = find_packages(include=["tfprune", "tfprune.*"])

setup(
    packages=[*library, "tfprune.callbacks"],
    package_dir={"tfprune": "tfprune", "tfprune.callbacks": "callbacks"},
)
