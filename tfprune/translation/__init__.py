"""The reference translator: data to text, in Keras, small enough to read."""

import lazy_loader

# A LiteRT translator runs without Keras, so nothing is imported before it is used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
