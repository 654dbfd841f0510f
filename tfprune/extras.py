"""Packages that only parts of tfprune need; extras of the same name bring them."""

from __future__ import annotations

import importlib
from types import ModuleType


def require(module: str, extra: str) -> ModuleType:
    """Imports a module of a package that `pip install tfprune` does not bring.

    Args:
        module: Name of the module, such as `"matplotlib.figure"`.
        extra: The extra of tfprune that brings its package.

    Returns:
        The module.

    Raises:
        ImportError: If the package is not installed; it says how to install it.

    Example:

    >>> require("matplotlib.figure", extra="plots").Figure.__name__
    'Figure'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise  # The package is there, and lacks something itself.
        raise ModuleNotFoundError(
            f"This needs the package `{package}`, which is not installed. "
            f"Install it with `pip install 'tfprune[{extra}]'`.",
            name=error.name,
            path=error.path,
        ) from error
