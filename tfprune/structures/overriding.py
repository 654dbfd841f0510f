"""Whether a subclass still computes what the class does for which a kind was written."""

from __future__ import annotations

import keras

# How a layer is made, saved and described, not what it computes.
_HARMLESS = {
    "build",
    "build_from_config",
    "compute_mask",
    "compute_output_shape",
    "compute_output_spec",
    "from_config",
    "get_build_config",
    "get_config",
    "load_own_variables",
    "save_own_variables",
}


def overridden(layer_class: type[keras.Layer], base: type[keras.Layer]) -> str | None:
    """What a subclass computes in its own way.

    Args:
        layer_class: `base` or a subclass of it.
        base: The class for which a kind was written.

    Returns:
        The name of a method or property of `base` that the subclass or a class between overrides;
        `None` if there are none but those that say how a layer is made and saved.

    Example:

    >>> import keras
    >>> class Named(keras.layers.Dense):
    ...     def get_config(self):
    ...         return super().get_config()
    >>> class Centred(Named):
    ...     def call(self, inputs):
    ...         return inputs - super().call(inputs)
    >>> overridden(Named, keras.layers.Dense), overridden(Centred, keras.layers.Dense)
    (None, 'call')
    """
    for cls in layer_class.__mro__:
        if cls is base:
            return None
        for name, value in vars(cls).items():
            is_computed = callable(value) or isinstance(value, (property, classmethod))
            is_special = name.startswith("__") and name != "__call__"
            if is_computed and not is_special and name not in _HARMLESS and hasattr(base, name):
                return name
    return None


def reason_of(layer: keras.Layer, base: type[keras.Layer]) -> str | None:
    """Why a layer cannot be cut as a layer of a base class is, `None` if it can."""
    name = overridden(type(layer), base)
    if name is None:
        return None
    return f"{type(layer).__name__} overrides `{name}` of {base.__name__}; register a kind for it"
