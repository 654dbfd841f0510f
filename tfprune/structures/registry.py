"""Which layer kinds are known; users add theirs."""

from __future__ import annotations

from collections.abc import Callable

import keras

from tfprune.structures.structure import Structure

Describe = Callable[[keras.Layer, str], Structure]

_KINDS: dict[type[keras.Layer], Describe] = {}


def register_layer_kind(layer_class: type[keras.Layer]) -> Callable[[Describe], Describe]:
    """Teaches `find_structures` a layer that holds its groups inside itself.

    The decorated function takes a built layer and its name and returns a `Structure`, or raises
    `ValueError` with the reason why this one must be left whole. Subclasses of `layer_class` are
    covered too, the nearest class first.

    Args:
        layer_class: The layer class.

    Returns:
        A decorator that returns the function as it is.

    Example:

    ```python
    from tfprune.structures import Slices, Structure, register_layer_kind

    class Experts(Structure):
        kind = "experts"

        def emitted(self, consumer, read):
            return np.zeros(consumer.variable.shape[:2], "float32")

        def resized_config(self, layer, groups):
            return {"experts": groups}

    @register_layer_kind(MyMixtureOfExperts)
    def describe(layer, name):
        return Experts(name, layer.experts, (
            Slices(layer, "kernel_in", axis=0, role="producer"),
            Slices(layer, "kernel_out", axis=0, role="consumer"),
        ))
    ```
    """
    if not (isinstance(layer_class, type) and issubclass(layer_class, keras.Layer)):
        raise ValueError(
            "`layer_class` must be a subclass of `keras.Layer`. "
            f"Received: layer_class={layer_class!r}"
        )

    def register(describe: Describe) -> Describe:
        _KINDS[layer_class] = describe
        return describe

    return register


def describe_of(layer: keras.Layer) -> Describe | None:
    """The registered description of a layer's class or of the nearest of its base classes."""
    for cls in type(layer).__mro__:
        if cls in _KINDS:
            return _KINDS[cls]
    return None
