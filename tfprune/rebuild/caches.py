"""Caches of keys and values that have room for more heads than an attention layer has left.

KerasHub's `generate()` makes one cache for all layers, with as many heads as the configuration of
the backbone says. A layer that has lost heads uses the first places of its part of it.
"""

from __future__ import annotations

from functools import wraps
from inspect import signature

import keras
from keras import ops


def take_wider_caches(layer: keras.Layer, heads: int) -> None:
    """Lets an attention layer be given a cache with room for more heads than it has.

    Args:
        layer: A built layer. One whose `call` has no argument `cache` is left as it is.
        heads: How many heads of keys and values it has.
    """
    if "cache" not in signature(type(layer).call).parameters:
        return
    plain = vars(layer).pop("call", layer.call)

    @wraps(plain)
    def call(*args, **kwargs):
        given = signature(plain).bind(*args, **kwargs).arguments
        cache = given.get("cache")
        if cache is None or cache.shape[-2] <= heads:
            return plain(*args, **kwargs)
        *others, used = plain(**{**given, "cache": cache[..., :heads, :]})
        return (*others, ops.concatenate([used, cache[..., heads:, :]], axis=-2))

    # On the object alone: its class is what structures are registered for.
    vars(layer)["call"] = call
