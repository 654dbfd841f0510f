"""Packages that only parts of tfprune need; extras of the same name bring them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.util import find_spec
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
            _message({package: extra}), name=error.name, path=error.path
        ) from error


def require_all(extras: Mapping[str, str]) -> None:
    """Says of several packages at once which are not installed; none is imported.

    Args:
        extras: Package, as it is imported, to the extra of tfprune that brings it.

    Raises:
        ImportError: If some are not installed; it names them all and says how to install them.

    Example:

    >>> require_all({"keras": "export"})
    """
    missing = {package: extra for package, extra in extras.items() if not is_installed(package)}
    if missing:
        raise ModuleNotFoundError(_message(missing), name=next(iter(missing)))


def is_installed(package: str) -> bool:
    """Whether a package is there; it is not imported."""
    try:
        return find_spec(package) is not None
    except ImportError:  # Raised by a finder that forbids it.
        return False


def _message(missing: Mapping[str, str]) -> str:
    """An error for packages and the extras that bring them."""
    names = " and ".join(f"`{package}`" for package in missing)
    packages = "the package {}, which is" if len(missing) == 1 else "the packages {}, which are"
    extras = ",".join(sorted(set(missing.values())))
    return (
        f"This needs {packages.format(names)} not installed. Install "
        f"{'it' if len(missing) == 1 else 'them'} with `pip install 'tfprune[{extras}]'`."
    )
