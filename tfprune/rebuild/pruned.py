"""Models and layers whose configuration has no place for a pruned shape.

KerasHub's layers compute the size of a head from the number of heads, and a subclassed model
builds what its author wrote. Such a model is copied from its configuration and cut in place. The
copy's class is a subclass made on the fly, so it stays what it was, whose saved form is the base
configuration plus the cuts.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache, wraps
from inspect import signature
from typing import TYPE_CHECKING, Any

import keras

from tfprune.copying import class_without_cuts, copy_from_config, own_config
from tfprune.errors import in_one_line
from tfprune.keras_private.layers import (
    build_shapes,
    inner_layers,
    set_build_shapes,
)
from tfprune.keras_private.serialization import (
    describe_in_files,
    load_described,
    public_module,
    register_as,
    registered_name,
)
from tfprune.rebuild.assets import give_assets
from tfprune.rebuild.built_inside import build_inside, builds_inside
from tfprune.rebuild.cutting import Cuts, cut_in_place, cuts_inside, give_cut_weights
from tfprune.rebuild.first_made import as_first_made
from tfprune.rebuild.plan import Plan
from tfprune.rebuild.presets import saving_to_preset
from tfprune.rebuild.saved_form import DESCRIPTION, REGISTERED_NAME, is_pruned_form
from tfprune.structures.recurrent import cells_of
from tfprune.structures.registry import describe_of, refusal_of
from tfprune.structures.transparent import Transparent


def is_composite(layer) -> bool:
    """Whether a layer is made of layers in a way that only its own class knows."""
    return (
        isinstance(layer, keras.Layer)
        and not isinstance(layer, Transparent)
        and (describe_of(layer) is None or refusal_of(layer) is not None)
        and not cells_of(layer)
        and bool(inner_layers(layer))
    )


def keeps_its_cuts(layer, plan: Plan) -> bool:
    """Whether a layer changes in a way of which its configuration can say nothing."""
    return (is_composite(layer) and plan.touches(layer)) or id(layer) in plan.numbers


if TYPE_CHECKING:
    from keras import Layer as _Layer  # What it is mixed into.
else:
    _Layer = object


@keras.saving.register_keras_serializable("tfprune", name="Pruned")
class Pruned(_Layer):
    """Mixed into the class of a layer or model that was cut in place."""

    _cuts: Sequence[Cuts] = ()  # One list for each time the model was rebuilt.
    _is_cut = False
    _inside = None  # How the layers inside were built, where that is known.

    def _cut(self):
        if not self._is_cut:
            for cuts in self._cuts:
                cut_in_place(self, cuts)
            self._is_cut = True

    def build_from_config(self, config):
        """Builds the whole model as its class does, then cuts it."""
        config = dict(config or {})
        self.__dict__["_inside"] = config.pop("inside", None)
        if config:
            super().build_from_config(config)
        build_inside(self, self._inside)
        self._cut()

    def get_build_config(self):
        """The shapes with which it was built, and how the layers inside were, before the cuts."""
        config = super().get_build_config()
        with as_first_made(self):
            inside = builds_inside(self)
        return config if inside is None else {**(config or {}), "inside": inside}

    def get_config(self):
        """The base class's configuration and the cuts."""
        base = class_without_cuts(self)
        return {
            "base": {
                "module": public_module(base),
                "class_name": base.__name__,
                "registered_name": registered_name(base),
                "config": self._base_config(),
            },
            "cuts": [[dict(cut) for cut in cuts] for cuts in self._cuts],
        }

    def _base_config(self):
        with as_first_made(self):
            return super().get_config()

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes the base object and cuts it, at once or when it is built."""
        if "cuts" not in config:
            return super().from_config(config)
        config = {**config}
        base, cuts = dict(config.pop("base")), config.pop("cuts")
        # KerasHub's `from_preset` puts its arguments beside them.
        base["config"] = {**base.get("config", {}), **config}
        made = keras.saving.deserialize_keras_object(
            own_config(base), custom_objects=custom_objects
        )
        return _pruned(made, base["config"], cuts)


# When this module is imported, not when a model is cut: most load in a process that cuts nothing.
load_described(DESCRIPTION, Pruned)


@cache
def pruned_class(base: type[keras.Layer]) -> type[keras.Layer]:
    """The subclass of `base` that keeps its cuts."""

    @wraps(base.build)  # Keras reads the names of the shapes from the signature.
    def build(self, *args, **kwargs):
        with warnings.catch_warnings():
            # That Keras's own `build` leaves layers without weights, which are made below.
            warnings.filterwarnings("ignore", message=".*looks like it has unbuilt state")
            base.build(self, *args, **kwargs)
        if not all(inner.built for inner in inner_layers(self)):
            # What is cut must be there: without a `build` of its own, a call makes it.
            shapes = dict(signature(base.build).bind(self, *args, **kwargs).arguments)
            shapes.pop("self", None)
            set_build_shapes(self, shapes)
            build_inside(self, self._inside)
        self._cut()

    own = {"__module__": base.__module__, "build": build}
    if hasattr(base, "save_to_preset"):
        own["save_to_preset"] = saving_to_preset(base)
    cls = type(base.__name__, (Pruned, base), own)
    # All of them load through `Pruned.from_config`, which knows how to make each again.
    register_as(cls, REGISTERED_NAME)
    describe_in_files(cls, DESCRIPTION)
    return cls


def _pruned(base, config, cuts):
    if base.built:
        base.__class__ = pruned_class(base.__class__)
        pruned = base
    else:
        # Keras binds `build` when an object is made, so it must be made as the subclass.
        pruned = pruned_class(base.__class__).from_config(own_config(config))
    pruned.__dict__["_cuts"] = cuts
    if pruned.built:
        pruned._cut()
    return pruned


def pruned_copy(layer: keras.Layer, plan: Plan) -> keras.Layer:
    """A copy of a layer or model, cut in place, with its weights.

    Args:
        layer: A built layer or model made of layers.
        plan: The plan.

    Returns:
        An object of a subclass of the layer's class.

    Raises:
        ValueError: If the layer cannot be copied from its configuration.
    """
    original = class_without_cuts(layer)
    try:
        pruned = isinstance(layer, Pruned)
        copy = copy_from_config(
            layer,
            make=lambda config: _cut_copy(layer, original, config, plan),
            get_config=layer._base_config if pruned else None,
        )
    except Exception as error:  # Whatever user code raises.
        raise cannot_copy(layer, error) from error
    give_cut_weights(layer, copy, plan)
    give_assets(layer, copy)
    return copy


def cannot_copy(layer: keras.Layer, error: Exception) -> ValueError:
    """The error for a layer that cannot be made again from its configuration.

    Args:
        layer: The layer.
        error: What its class raised.
    """
    cls = class_without_cuts(layer)
    own = any("get_config" in vars(c) for c in cls.__mro__ if not c.__module__.startswith("keras."))
    why = "has no `get_config()` of its own"
    if own:
        why = f"cannot be made from what its `get_config()` returns ({in_one_line(error)})"
    return ValueError(
        f"`rebuild` cannot copy the layer {layer.name!r}: {cls.__name__} {why}. Either give "
        f"{cls.__name__} a `get_config()` that returns the arguments of its `__init__`, which must "
        "take `**kwargs` and hand them to `super().__init__`; or cut the model itself: "
        "`rebuild(model, in_place=True)`."
    )


def _cut_copy(layer, original, config, plan):
    apart: set[int] = set()
    config = _with_cuts(config, layer, plan, apart)
    cuts = [*getattr(layer, "_cuts", ()), cuts_inside(layer, plan, apart)]
    copy = _pruned(original.from_config(own_config(config)), config, cuts)
    if not copy.built:
        set_build_shapes(copy, build_shapes(layer))
        copy.build_from_config(_build_config(layer))
    return copy


def _build_config(layer):
    config = layer.get_build_config()
    if isinstance(layer, Pruned):
        return config
    return {**(config or {}), "inside": builds_inside(layer)}


def _with_cuts(config, layer, plan, apart):
    """A configuration in which the models that it spells out keep their own cuts.

    So a backbone that is taken out of a rebuilt KerasHub task can be saved alone.

    Args:
        config: The configuration of `layer`, or a part of it.
        layer: The layer.
        plan: The plan.
        apart: Takes the ids of the layers that keep their own cuts.
    """
    if isinstance(config, (list, tuple)):
        return type(config)(_with_cuts(part, layer, plan, apart) for part in config)
    if not isinstance(config, dict):
        return config
    inner = spelled_out(config, layer)
    if inner is None or not keeps_its_cuts(inner, plan):
        return {key: _with_cuts(part, layer, plan, apart) for key, part in config.items()}
    apart.add(id(inner))
    before = isinstance(inner, Pruned)
    base = config["config"]["base"] if before else config
    inside: set[int] = set()
    base = {**base, "config": _with_cuts(base["config"], inner, plan, inside)}
    cuts = [*(config["config"]["cuts"] if before else ()), cuts_inside(inner, plan, inside)]
    return {**config, "registered_name": REGISTERED_NAME, "config": {"base": base, "cuts": cuts}}


def spelled_out(config: dict[str, Any], layer: keras.Layer) -> keras.Layer | None:
    """The layer inside `layer` that a serialized object stands for, or `None`.

    Args:
        config: A part of the configuration of `layer`.
        layer: The layer.
    """
    if "class_name" not in config or not isinstance(config.get("config"), dict):
        return None
    if is_pruned_form(config):
        config = config["config"]["base"]
    name, class_name = config["config"].get("name"), config["class_name"]
    found = [
        inner
        for inner in inner_layers(layer)
        if inner.name == name and type(inner).__name__ == class_name
    ]
    return found[0] if len(found) == 1 else None
