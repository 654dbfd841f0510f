"""Cuts a model itself, where no copy of it can be made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import keras
import numpy as np

from tfprune.errors import in_one_line
from tfprune.gates.attaching import containers, detach
from tfprune.keras_private.fits import forget_compiled
from tfprune.keras_private.functional import (
    graph_tensors,
    set_shapes,
)
from tfprune.keras_private.layers import inner_layers, layer_and_inner_layers
from tfprune.rebuild.cutting import (
    become,
    cuts_inside,
    give_cut_weights,
    graphs_inside,
    narrow,
    narrower,
    refresh_graphs,
    replacement,
    resize_layer,
    targets_of,
)
from tfprune.rebuild.first_made import first_made
from tfprune.rebuild.graph_rebuilder import is_plain
from tfprune.rebuild.plan import Plan
from tfprune.rebuild.pruned import is_composite, keeps_its_cuts, pruned_class, spelled_out


class InPlace:
    """All that changes in a model when a plan is carried out on the model itself.

    It is worked out first; the model is touched only by `make`, and `undo` takes that back.

    Args:
        model: A built model.
        plan: The plan.

    Raises:
        ValueError: If a layer cannot be made with fewer groups.
    """

    def __init__(self, model: keras.Model, plan: Plan):
        self.model = model
        # Layers, what each becomes, with its weights, and what is to be known of it then.
        self._others: list[tuple[keras.Layer, keras.Layer, dict[str, Any]]] = []
        # Layers that get other shapes and numbers, and the cuts that say which.
        self._resized: list[tuple[keras.Layer, dict[str, Any]]] = []
        # What is made of layers, and the cuts with which a file of it can be loaded.
        self._cuts: list[tuple[keras.Layer, list[dict[str, Any]]]] = []
        self._all_cuts: list[dict[str, Any]] = []
        for part, apart in _parts(model, plan):
            cuts = cuts_inside(part, plan, apart)
            self._all_cuts += cuts
            for cut, layer in zip(cuts, targets_of(part, cuts, apart), strict=True):
                if cut["become"] == "narrower":
                    continue  # As those in plain models, which are no part.
                if cut["become"] == "resized":
                    self._resized.append((layer, cut))
                else:
                    self._prepare(layer, cut, plan, keeps_cuts=not isinstance(part, _Layers))
            # The configuration of a plain model says what its layers are now.
            if cuts and not isinstance(part, _Layers):
                self._cuts.append((part, cuts))
        replaced = {id(v) for layer, _, _ in self._others for v in layer.variables}
        # Other layers take constants into their biases, or have gates folded into their kernels.
        self._values = [
            (v, plan.values.value(v))
            for v in model.variables
            if id(v) not in replaced and plan.values.changes(v)
        ]
        self._narrower = [
            (layer, narrower(layer, plan))
            for layer in layer_and_inner_layers(model)
            if id(layer) in plan.entered or id(layer) in plan.calls
        ]
        self._undo = ExitStack()

    def _prepare(self, layer, cut, plan, keeps_cuts):
        try:
            other = replacement(layer, cut)
            give_cut_weights(layer, other, plan)
        except Exception as error:  # Whatever user code raises.
            raise ValueError(
                f"`in_place=True` cannot cut the layer {layer.name!r}: no smaller "
                f"{type(layer).__name__} can be made: {error}"
            ) from error
        self._others.append((layer, other, first_made(layer, other) if keeps_cuts else {}))

    def make(self) -> None:
        """Cuts the model. If that fails half way, the model is as it was."""
        try:
            for held in containers(self.model):
                self._undo.callback(held.apply)
                held.remove()
            for layer, other, known in self._others:
                self._keep(layer)
                become(layer, other, known)
            for layer, cut in self._resized:
                self._undo.callback(resize_layer(layer, cut))
            for variable, value in self._values:
                before = np.array(keras.ops.convert_to_numpy(variable))
                self._undo.callback(variable.assign, before)
                variable.assign(value)
            for layer, cuts in self._cuts:
                self._keep(layer)
                earlier = getattr(layer, "_cuts", ())
                if not earlier:
                    layer.__class__ = pruned_class(layer.__class__)
                vars(layer).update(_cuts=[*earlier, cuts], _is_cut=True)
            changed = [layer for layer, *_ in (*self._others, *self._resized)]
            for functional in graphs_inside(self.model):
                shapes = [(t, t.shape) for t in graph_tensors(functional)]
                self._undo.callback(set_shapes, shapes)
            for layer, cut in self._narrower:
                self._undo.callback(narrow(layer, cut))
            _refresh(self.model, changed, self._all_cuts)
            forget_compiled(self.model)
        except BaseException:
            self.undo()
            raise

    def _keep(self, layer):
        self._undo.callback(_restore, layer, type(layer), dict(vars(layer)))

    def undo(self) -> None:
        """The model is as it was before `make`."""
        self._undo.close()
        forget_compiled(self.model)

    def commit(self) -> None:
        """Leaves the model as it is now. It must be compiled again, as its variables are others."""
        self._undo.pop_all()
        detach(self.model)
        self.model.compiled = False
        self.model.optimizer = None


def _refresh(model, changed, cuts):
    try:
        refresh_graphs(model, changed, cuts)
    except Exception as error:  # Whatever user code raises.
        raise ValueError(
            f"`in_place=True` cannot cut the model {model.name!r}: a layer in it cannot read "
            f"what the smaller ones return ({in_one_line(error)})"
        ) from error


class _Layers(keras.Layer):
    """Holds the layers of plain models, to be looked into as a layer made of layers is."""

    def __init__(self, layers):
        super().__init__(name="layers")
        self.layers = layers


def _parts(model, plan) -> Iterator[tuple[keras.Layer, set[int]]]:
    """What is cut by itself: a model with a `call` of its own, or what is in a plain one.

    With each come the ids of the layers inside that are cut by themselves too.
    """
    if not is_plain(model):
        yield from _composites(model, plan)
        return
    leaves = []
    for layer in inner_layers(model, recursive=False):
        if is_plain(layer):
            yield from _parts(layer, plan)
        elif (is_composite(layer) or id(layer) in plan.numbers) and id(layer) not in plan.constants:
            yield from _composites(layer, plan)
        else:
            leaves.append(layer)
    yield _Layers(leaves), set()


def _composites(layer, plan) -> Iterator[tuple[keras.Layer, set[int]]]:
    """A layer made of layers, and before it the models that its configuration spells out.

    So a backbone that is taken out of a KerasHub task can be saved alone.
    """
    own = [inner for inner in _spelled_out_inside(layer) if _keeps_cuts(inner, layer, plan)]
    for inner in own:
        yield from _composites(inner, plan)
    yield layer, {id(inner) for inner in own}


def _keeps_cuts(inner, layer, plan) -> bool:
    # Cuts of the outer layer, from a file of an earlier version, may count the layers in `inner`.
    counted = any(getattr(layer, "_cuts", ())) and not hasattr(inner, "_cuts")
    return keeps_its_cuts(inner, plan) and not counted


def _spelled_out_inside(layer) -> list[keras.Layer]:
    try:
        parts = [layer.get_config()]
    except Exception:  # Whatever user code raises: layers that cannot be copied come here.
        return []
    found: dict[int, keras.Layer] = {}
    while parts:
        part = parts.pop()
        inner = spelled_out(part, layer) if isinstance(part, dict) else None
        if inner is not None:
            found[id(inner)] = inner
        elif isinstance(part, (dict, list, tuple)):
            parts += part.values() if isinstance(part, dict) else part
    return list(found.values())


def _restore(layer, cls, contents):
    layer.__class__ = cls
    vars(layer).clear()
    vars(layer).update(contents)
