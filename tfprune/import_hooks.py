"""What happens when Keras and TensorFlow are imported, by us or by others."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from tfprune import extras, native_messages

# The modules that define classes which saved models and configurations may contain.
SERIALIZABLE = (
    "tfprune.budgets.latency_table",
    "tfprune.budgets.targets",
    "tfprune.callbacks",
    "tfprune.criteria",
    "tfprune.embeddings.factorized_embedding",
    "tfprune.penalties",
    "tfprune.rebuild.pruned",
    "tfprune.rebuild.stand_ins",
    "tfprune.schedules",
    "tfprune.structures.by_shape.padding",
    "tfprune.translation.student_layers",
    "tfprune.translation.training",
    "tfprune.wrappers",
)


def install() -> None:
    """Registers our classes with Keras when it is imported, and keeps TensorFlow's start quiet.

    When KerasHub is imported, its presets may hold rebuilt models. Where Keras and KerasHub are
    imported already, this is done at once.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    _register_if_possible()


class _Importing(threading.local):
    """How many imports this thread is in the middle of, after which classes can be registered."""

    depth = 0


_importing = _Importing()


def _register_if_possible() -> None:
    # In the middle of a module of ours, which may be what imports Keras, the others cannot be
    # imported; they are when that one is complete.
    if _importing.depth > 0 or "keras" not in sys.modules:
        return
    for name in SERIALIZABLE:
        importlib.import_module(name)
    spec = getattr(sys.modules.get("keras_hub"), "__spec__", None)
    # KerasHub imports Keras: in the middle of that it is not complete.
    if spec is not None and not getattr(spec, "_initializing", False):
        _open_presets()


def _open_presets() -> None:
    importlib.import_module("tfprune.rebuild.presets").install()


@contextmanager
def _then_register() -> Iterator[None]:
    _importing.depth += 1
    try:
        yield
    finally:
        _importing.depth -= 1
    _register_if_possible()


@contextmanager
def _with_a_backend() -> Iterator[None]:
    """Keras runs on a package that it does not bring: the error says how to get one."""
    try:
        with _then_register():
            yield
    except ModuleNotFoundError as error:
        if error.name not in extras.BACKENDS:
            raise
        raise extras.no_backend(error.name) from error


@contextmanager
def _then_open_presets() -> Iterator[None]:
    yield
    if _importing.depth == 0:
        _open_presets()


@contextmanager
def _quietly() -> Iterator[None]:
    os.environ.setdefault(native_messages.LEVEL, "3")
    with native_messages.filtered():
        yield


class _Finder:
    """Finds modules as the other finders do, and puts a context around their execution."""

    def find_spec(self, name, path=None, target=None):
        """The module's specification, or `None` if it is not of interest."""
        if name == "tensorflow":
            context = _quietly
        elif name == "keras":
            context = _with_a_backend
        elif name.startswith("tfprune."):
            context = _then_register
        elif name == "keras_hub":
            context = _then_open_presets
        else:
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, context)
                return spec
        return None


class _Loader:
    """A module's own loader; the module is executed in a context."""

    def __init__(self, loader, context: Callable[[], AbstractContextManager]):
        self._loader = loader
        self._context = context

    def __getattr__(self, name):
        return getattr(self._loader, name)

    def create_module(self, spec):
        """The module, as the own loader makes it."""
        return self._loader.create_module(spec)

    def exec_module(self, module):
        """Executes the module; from then on it has its own loader alone."""
        module.__spec__.loader = module.__loader__ = self._loader
        with self._context():
            self._loader.exec_module(module)
