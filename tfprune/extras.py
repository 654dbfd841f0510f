"""Packages that only parts of tfprune need; extras of the same name bring them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.util import find_spec
from types import ModuleType

# Backends of Keras that tfprune runs on, and the extra that brings each.
BACKENDS = {"tensorflow": "export", "jax": "jax"}


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


def no_backend(package: str) -> ModuleNotFoundError:
    """The error for a Keras whose backend is not installed.

    Args:
        package: The backend that Keras wants, a key of `BACKENDS`.
    """
    other = "jax" if package == "tensorflow" else "tensorflow"
    return ModuleNotFoundError(
        f"Keras runs on {package}, which is not installed. Install it with "
        f"`pip install 'tfprune[{BACKENDS[package]}]'`; or run Keras on {other}: "
        f"`pip install 'tfprune[{BACKENDS[other]}]'`, and set KERAS_BACKEND={other}.",
        name=package,
    )


def _message(missing: Mapping[str, str]) -> str:
    """An error for packages and the extras that bring them."""
    install = f"`pip install 'tfprune[{','.join(sorted(set(missing.values())))}]'`."
    *others, last = missing
    if others:
        names = ", ".join(f"`{package}`" for package in others)
        return (
            f"This needs the packages {names} and `{last}`, which are not installed. "
            f"Install them with {install}"
        )
    return f"This needs the package `{last}`, which is not installed. Install it with {install}"
