"""tfprune: make Keras 3 models physically smaller while they train.

Importing it is cheap: a name is imported when it is first used (`__init__.pyi` lists the names and
where they are defined). Keras and TensorFlow are not imported; as soon as somebody imports Keras,
before or after tfprune, the classes that saved models may contain are registered with it.
"""

import lazy_loader

from tfprune import import_hooks

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

import_hooks.install()
