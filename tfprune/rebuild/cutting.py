"""Cuts the layers inside a layer in place, where the graph is hidden in somebody's `call`.

The cuts are written down as plain data, so that a saved model can make them again before it loads
its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import keras

from tfprune.copying import copy_from_config
from tfprune.keras_private.functional import (
    functional_inside,
    is_functional,
    keep_calls,
    nodes_of,
    refresh_shapes,
    rewrite_call,
    set_input_shape,
)
from tfprune.keras_private.layers import (
    inner_layers,
    layer_and_inner_layers,
    own_variables,
    plain_variable,
)
from tfprune.keras_private.variables import resize, restore
from tfprune.model_parts import own_children
from tfprune.rebuild.attributes import carry_over
from tfprune.rebuild.caches import take_wider_caches
from tfprune.rebuild.constants import first_parameter
from tfprune.rebuild.first_made import first_made
from tfprune.rebuild.plan import Plan
from tfprune.rebuild.stand_ins import ConstantOutput, Passed
from tfprune.structures.by_shape.resizing import remember_numbers, set_numbers
from tfprune.structures.transparent import Transparent, plain_layer

Cuts = list[dict[str, Any]]

ITSELF = -1  # The place of a layer before those inside it.


def layers_inside(layer: keras.Layer, apart: Collection[int] = ()) -> Iterator[keras.Layer]:
    """The layers inside a layer, but not those inside a wrapper or one that keeps its own cuts.

    A model may use the layers of another one that it holds, as well as that one: they come once
    for each way to them, but what is inside them is left out too.

    Args:
        layer: A layer made of layers.
        apart: Ids of layers that are going to keep their own cuts.

    Yields:
        Layers, in an order that does not depend on what is cut inside the ones left out.
    """
    yield from _layers_inside(layer, ids_apart(layer, apart))


def _layers_inside(layer, closed):
    for inner in own_children(layer):
        yield inner
        if isinstance(inner, Transparent):
            continue  # It becomes the layer inside.
        if not inner.variables:
            continue  # Nothing to cut, and a preprocessor makes layers when it is first called.
        if id(inner) not in closed:
            yield from _layers_inside(inner, closed)


def ids_apart(layer: keras.Layer, apart: Collection[int] = ()) -> set[int]:
    """Ids of the layers inside a layer that keep their own cuts, and of those inside them.

    Args:
        layer: A layer made of layers.
        apart: Ids of layers that are going to keep their own cuts.
    """
    found: set[int] = set()
    for inner in inner_layers(layer):
        if id(inner) in apart or hasattr(inner, "_cuts"):
            found.update(id(x) for x in layer_and_inner_layers(inner))
    return found


def cuts_inside(layer: keras.Layer, plan: Plan, apart: Collection[int] = ()) -> Cuts:
    """The cuts that a plan makes inside a layer.

    Args:
        layer: A built layer made of layers.
        plan: The plan.
        apart: As in `layers_inside`.

    Returns:
        One entry for each layer that changes: `"index"` among the layers inside, `ITSELF` for the
        layer, `"class"`, `"name"`, and `"become"`: `"smaller"` (with `"config"` and
        `"input_width"`), `"resized"` (with `"shapes"`, `"numbers"` and, for a layer with heads,
        `"heads"`), `"narrower"` (a model, with the numbers of `"inputs"` and their widths, and
        those of `"calls"` and what is written in them),
        `"constant"` (with `"shape"` and `"argument"`), `"other"` (with `"layer"`) or
        `"nothing"`. `"crosses"` is true where layers made of layers return or take less then.
    """
    cuts: Cuts = []
    others = ids_apart(layer, apart)
    for index, found in enumerate([layer, *layers_inside(layer, apart)], ITSELF):
        inner = plain_layer(found)
        cut: dict[str, Any] = {
            "index": index,
            "class": type(found).__name__,
            "name": inner.name,  # Where a class gives none, Keras would number the copy's anew.
        }
        own = any(id(inner) in each for each in (plan.numbers, plan.entered, plan.calls))
        if id(inner) in others or (index == ITSELF and not own):
            continue
        if id(inner) in plan.constants or id(inner) in plan.gone or id(inner) in plan.replacements:
            others |= {id(x) for x in inner_layers(inner)}  # They leave with it.
        if id(inner) in plan.constants:
            shape = list(plan.constants[id(inner)].shape)
            cut |= {"become": "constant", "shape": shape, "argument": first_parameter(inner)}
        elif id(inner) in plan.replacements:
            other, config, _ = plan.replacements[id(inner)]
            made = keras.saving.serialize_keras_object(other.from_config(config))
            cut |= {"become": "other", "layer": made}
            cut["input_width"] = plan.input_widths.get(id(inner))
        elif id(inner) in plan.gone:
            cut |= {"become": "nothing"}
        elif id(inner) in plan.entered or id(inner) in plan.calls:
            cut |= {"become": "narrower", **narrower(inner, plan), "crosses": True}
        elif id(inner) in plan.numbers:
            cut |= {
                "become": "resized",
                "shapes": {n: list(s) for n, s in plan.shapes.get(id(inner), {}).items()},
                "numbers": plan.numbers[id(inner)],
                "heads": plan.groups.get(id(inner)),
            }
        elif id(inner) in plan.configs or id(inner) in plan.input_widths or inner is not found:
            cut |= {
                "become": "smaller",
                "config": plan.configs.get(id(inner), {}),
                "input_width": plan.input_widths.get(id(inner)),
            }
        else:
            continue
        if id(inner) in plan.crossed:
            cut["crosses"] = True
        cuts.append(cut)
    return cuts


def cut_in_place(layer: keras.Layer, cuts: Cuts) -> None:
    """Makes the cuts inside a built layer; the weights of what is cut are new afterwards.

    Args:
        layer: A built layer of the class and configuration for which the cuts were written.
        cuts: What `cuts_inside` returned.

    Raises:
        ValueError: If the layers inside are not those for which the cuts were written.
    """
    targets = []
    for cut, target in zip(cuts, targets_of(layer, cuts), strict=True):
        if target is None or type(target).__name__ != cut["class"]:
            found = "nothing" if target is None else type(target).__name__
            raise ValueError(
                f"The saved cuts do not fit {type(layer).__name__} {layer.name!r}: they expect a "
                f"{cut['class']} at place {cut['index']}, and found {found}. The class has changed "
                "since the model was rebuilt; use the version it was saved with."
            )
        targets.append(target)
    for cut, target in zip(cuts, targets, strict=True):
        if cut["become"] == "narrower":
            narrow(target, cut)
        elif cut["become"] == "resized":
            resize_layer(target, cut)
        else:
            other = replacement(target, cut)
            become(target, other, first_made(target, other))
    refresh_graphs(layer, targets, cuts)


def narrower(model: keras.Model, plan: Plan) -> dict[str, Any]:
    """What changes in the graph of a Functional or Sequential model, as plain data.

    Args:
        model: The model.
        plan: The plan.

    Returns:
        Its `"inputs"` and its `"calls"`, as in `cuts_inside`.
    """
    calls = plan.calls.get(id(model), {})
    return {
        "inputs": [list(pair) for pair in plan.entered.get(id(model), {}).items()],
        "calls": [[i, keras.saving.serialize_keras_object(calls[i])] for i in calls],
    }


def narrow(model: keras.Model, cut: dict[str, Any]) -> Callable[[], None]:
    """Gives inputs of a Functional or Sequential model other widths, and calls other sizes.

    Args:
        model: The model.
        cut: Its entry in what `cuts_inside` returned.

    Returns:
        Undoes it, but for the shapes of tensors.
    """
    functional = functional_inside(model) if isinstance(model, keras.Sequential) else model
    assert functional is not None  # What is cut is built.
    for number, width in cut["inputs"]:
        tensor = functional.inputs[number]
        set_input_shape(tensor, (*tensor.shape[:-1], width))
    undo = ExitStack()
    nodes = list(nodes_of(functional))
    for number, changes in cut.get("calls", ()):  # Files from before there were any lack them.
        changes = keras.saving.deserialize_keras_object(changes)
        undo.callback(rewrite_call(nodes[number], changes))
    return undo.close


def refresh_graphs(layer: keras.Layer, changed: list[keras.Layer], cuts: Cuts) -> None:
    """Tells the graphs of Functional models the shapes that layers give once they are cut.

    Args:
        layer: The layer in which they are.
        changed: The layers that were cut.
        cuts: What `cuts_inside` returned.
    """
    crosses = any(cut.get("crosses") for cut in cuts)
    for functional in graphs_inside(layer):
        refresh_shapes(functional, changed, anyway=crosses)


def targets_of(
    layer: keras.Layer, cuts: Cuts, apart: Collection[int] = ()
) -> list[keras.Layer | None]:
    """The layers that are cut, in the order of the cuts; `None` where there is none.

    Args:
        layer: The layer for which the cuts were written, or one like it.
        cuts: What `cuts_inside` returned.
        apart: As in `layers_inside`.
    """
    known = dict(enumerate([layer, *layers_inside(layer, apart)], ITSELF))
    return [known.get(cut["index"]) for cut in cuts]


def resize_layer(layer: keras.Layer, cut: dict[str, Any]) -> Callable[[], None]:
    """Gives a layer the shapes and the numbers of its entry in the cuts; new values are zero.

    Args:
        layer: A built layer.
        cut: Its entry in what `cuts_inside` returned.

    Returns:
        Undoes it.
    """
    contents = dict(vars(layer))
    variables = []
    for attribute, shape in cut["shapes"].items():
        variable = plain_variable(layer, attribute)
        variables.append((variable, resize(variable, shape)))
    before = set_numbers(layer, cut["numbers"])
    remember_numbers(layer, {name: before[name] for name in cut["numbers"]})
    if cut["heads"] is not None:
        take_wider_caches(layer, cut["heads"])

    def undo():
        for variable, value in variables:
            restore(variable, value)
        vars(layer).clear()
        vars(layer).update(contents)

    return undo


def graphs_inside(layer: keras.Layer) -> list[keras.Model]:
    """The Functional models in a layer, and itself if it is one; those inside others first."""
    found: dict[int, keras.Model] = {}
    for inner in layer_and_inner_layers(layer):
        functional = functional_inside(inner) if isinstance(inner, keras.Sequential) else inner
        if is_functional(functional):
            found[id(functional)] = functional
    return list(found.values())[::-1]


def replacement(layer: keras.Layer, cut: dict[str, Any]) -> keras.Layer:
    """What a layer becomes, built, with new weights.

    Args:
        layer: The layer.
        cut: Its entry in what `cuts_inside` returned.
    """
    layer = plain_layer(layer)
    common = {"name": cut["name"], "dtype": layer.dtype_policy}
    if cut["become"] == "constant":
        common["passes_masks"] = layer.supports_masking
        constant = ConstantOutput(cut["shape"], cut.get("argument", "query"), **common)
        constant.build()
        return constant
    if cut["become"] == "other":
        other = keras.saving.deserialize_keras_object(cut["layer"])
        other.build_from_config(_build_config(layer, cut))
        return other
    if cut["become"] == "nothing":
        return Passed(passes_masks=layer.supports_masking, **common)
    changes = {"name": cut["name"], **cut["config"]}
    smaller = copy_from_config(layer, changes)
    smaller.build_from_config(_build_config(layer, cut))
    carry_over(layer, smaller, changes)
    if hasattr(smaller, "num_heads"):
        take_wider_caches(smaller, smaller.num_heads)
    return smaller


def _build_config(layer, cut):
    """How a layer is built, with fewer inputs where the cut says so."""
    shapes = layer.get_build_config()
    width = cut.get("input_width")  # Files from before other layers could have fewer lack it.
    if width is None:
        return shapes
    return {**shapes, "input_shape": (*shapes["input_shape"][:-1], width)}


def become(
    layer: keras.Layer, other: keras.Layer, besides: Mapping[str, Any] | None = None
) -> None:
    """Turns `layer` into `other` while everyone who refers to it keeps the same object.

    Args:
        layer: The layer.
        other: What it becomes.
        besides: What its `__dict__` gets besides.
    """
    calls, trainable = keep_calls(layer), layer.trainable
    layer.__class__ = other.__class__
    layer.__dict__.clear()
    layer.__dict__.update(other.__dict__)
    layer.__dict__.update(calls, **(besides or {}))
    if layer.trainable != trainable:  # Setting it sets the flags of single weights too.
        layer.trainable = trainable


def give_cut_weights(old: keras.Layer, new: keras.Layer, plan: Plan) -> None:
    """Copies the weights of `old` into the cut copy `new`, folded and cut as the plan says.

    Args:
        old: The layer as it was.
        new: Its copy after `cut_in_place`.
        plan: The plan.
    """
    old = plain_layer(old)
    if isinstance(new, (ConstantOutput, Passed)) and type(new) is not type(old):
        if isinstance(new, ConstantOutput):
            new.bias.assign(plan.constants[id(old)])
        return
    if id(old) in plan.replacements:
        new.set_weights(plan.replacements[id(old)][2])
        return
    new.name = old.name
    changes = plan.configs.get(id(old), {}) if plan.touches(old) else None
    carry_over(old, new, changes, besides=plan.numbers.get(id(old), ()))
    for source, target in zip(own_variables(old), own_variables(new), strict=True):
        plan.values.hand_over(source, target)
    children = zip(
        own_children(old),
        own_children(new),
        # A preprocessor, which has no variables, makes some of the layers inside when it is called.
        strict=bool(old.variables),
    )
    for before, after in children:
        give_cut_weights(before, after, plan)
