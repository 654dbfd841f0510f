"""`tfprune.rebuild`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from tfprune.arguments import one_of
from tfprune.criteria.examples import FirstExamples
from tfprune.gates.chosen_subnetwork import at_subnetwork, subnetworks_of
from tfprune.gates.dynamic import at_size
from tfprune.gates.subnetworks import input_names
from tfprune.keras_private.functional import (
    functional_inside,
    inputs_struct,
    is_optional,
    masks_at_calls,
    nodes_of,
    outputs_struct,
)
from tfprune.keras_private.initializing import complete, nothing_for_random_values
from tfprune.keras_private.layers import layer_and_inner_layers
from tfprune.keras_private.variables import view
from tfprune.rebuild.deciding import checked_keep
from tfprune.rebuild.graph_rebuilder import GraphRebuilder, is_plain, model_between, nodes_of_plain
from tfprune.rebuild.grown_again import warn_if_grown
from tfprune.rebuild.in_place import InPlace
from tfprune.rebuild.nothing_zero import warn_if_nothing_goes
from tfprune.rebuild.plan import Plan
from tfprune.rebuild.pruned import pruned_copy
from tfprune.rebuild.self_check import SelfCheck
from tfprune.repair import repair as repaired
from tfprune.repair.restoring import readers_restored
from tfprune.structures import Structures, find_structures


def rebuild(
    model: keras.Model,
    keep: Mapping[str, np.ndarray] | None = None,
    size: float | None = None,
    subnetwork: str | None = None,
    in_place: bool = False,
    check: bool = True,
    repair: Any = None,
) -> keras.Model:
    """Makes the smaller model that a pruned model contains.

    Groups whose weights are zero are cut out of every kernel and bias. What they still contribute,
    such as the activation of a bias, is folded into the bias behind them. A layer that has lost all
    its groups is replaced by that constant, and by nothing where another bias can take it.

    A Functional or Sequential model becomes one again, made of Keras's own layers: it saves, loads
    and trains without tfprune. A KerasHub or subclassed model keeps its class; its saved file needs
    `import tfprune` to load. The old model is left as it was; the new one is not compiled.

    Args:
        model: A built Keras model.
        keep: Structure name, as `find_structures` shows it, to a boolean array `(groups,)`: false
            removes a group whatever its weights. Structures that are not named, by default all,
            lose the groups whose weights are zero; a warning says if there are none.
        size: For a model that was trained with `DynamicSparsity`: which of its sizes, as a share of
            the weights of what is pruned. By default the size that is set, which is the largest.
        subnetwork: For a model that was trained by a callback with `subnetworks`: the name of the
            one to cut out. The rebuilt model needs no number of a subnetwork: an input that only
            the gates needed is left out.
        in_place: Cuts the model itself instead of a copy, for models that cannot be copied: layers
            without `get_config`, lookup tables, LoRA, layers that Keras cannot serialize. If
            something fails, the model is as it was. It must be compiled again.
        check: Compares the result with the model on a small batch of made-up inputs, where they
            can be made up, before it is returned.
        repair: What `fit` takes, labels not needed: the layers that read what `keep` removes are
            fitted to what is left, on its first 512 examples, see `tfprune.prune`. Groups whose
            weights are zero already are no longer known, so nothing can be fitted for them.

    Returns:
        A new model with the same name, inputs, outputs, dtypes and trainable flags; with
        `in_place` the model that was given.

    Raises:
        RuntimeError: If the result computes something else than the model, which would be a
            mistake of tfprune.
        ValueError: If the model is not built or cannot be copied, if its weights hold NaN, if
            `keep` does not fit, if `size` or `subnetwork` is given for a model of one
            size or one network, or if `subnetwork` is not given for a model of several.

    Source: Behnke & Heafield, "Pruning Neural Machine Translation for Speed Using Group Lasso",
    WMT 2021, section 3.

    Example:

    >>> import keras, tfprune
    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.Dense(8, "relu", name="hidden"),
    ...     keras.layers.Dense(2, name="out"),
    ... ])
    >>> keep = {"hidden": np.arange(8) < 3}
    >>> tfprune.rebuild(model, keep=keep).count_params()
    23
    """
    one_of("in_place", in_place, (False, True))
    one_of("check", check, (False, True))
    if in_place and subnetworks_of(model) is not None:
        raise ValueError(
            "`in_place` must be False for a model of several subnetworks: the others would be "
            "lost. Received: in_place=True"
        )
    structures = find_structures(model)
    _refuse_nan(structures)
    warn_if_grown(model, structures, keep)
    with (
        at_size(model, size),
        at_subnetwork(model, subnetwork),
        _fitted(model, structures, keep, repair, in_place),
    ):
        # Made before, since a wrong `keep` is not to be silenced.
        plan = _plan(model, structures, keep, in_place=in_place)
        if keep is None and size is None and subnetwork is None:
            warn_if_nothing_goes(model, structures, plan.left)
        checked = SelfCheck(model, structures, keep) if check else None
        if in_place:
            return _cut_itself(model, plan, checked)
        small = _copied(model, structures, keep, plan)
        if checked is not None:
            checked.check(small)
    known = None if subnetwork is None else subnetworks_of(model)
    return small if known is None else _without(small, known.entry)


@contextmanager
def _fitted(model, structures, keep, data, in_place) -> Iterator[None]:
    """What reads the groups that go is fitted to those that stay, inside a `with` block."""
    if data is None:
        yield
        return
    if not keep:
        raise ValueError(
            "`repair` is for groups that `keep` removes. Received: repair with "
            f"keep={keep!r}; `tfprune.prune` chooses groups by itself"
        )
    keep = checked_keep(keep, structures)
    examples = FirstExamples(model, data)
    with readers_restored(structures, always=not in_place):
        repaired(model, structures, keep, examples.inputs(), undo_on_error=False)
        yield


def _cut_itself(model, plan, checked):
    with nothing_for_random_values():
        cut = InPlace(model, plan)
    cut.make()
    complete(model.variables)
    try:
        if checked is not None:
            checked.check(model)
    except BaseException:
        cut.undo()
        raise
    cut.commit()
    return model


def rebuilt_by(
    model: keras.Model,
    structures: Structures,
    keep: Mapping[str, Any] | None,
    replacements: Mapping | None = None,
    others_stay: bool = False,
) -> keras.Model:
    """`rebuild` for given structures, of whatever kind they are.

    Args:
        model: As in `rebuild`.
        structures: What may be cut.
        keep: As in `rebuild`.
        replacements: As in `Plan`.
        others_stay: Whether structures that `keep` does not name stay whole, whatever their
            weights; gates over them are folded all the same.
    """
    if others_stay:
        keep = {s.name: np.ones(s.groups, bool) for s in structures} | dict(keep or {})
    plan = _plan(model, structures, keep, replacements)
    return _copied(model, structures, keep, plan, replacements)


def check_in_place(model: keras.Model, structures: Structures, keep: Mapping[str, Any]) -> None:
    """Raises `ValueError` where `in_place=True` could not cut a model; it is left as it is.

    Args:
        model: As in `rebuild`.
        structures: What may be cut.
        keep: As in `rebuild`; structures that it does not name stay whole.
    """
    keep = {s.name: np.ones(s.groups, bool) for s in structures} | dict(keep)
    InPlace(model, _plan(model, structures, keep, in_place=True))


def groups_left(model: keras.Model, structures: Structures) -> dict[str, int]:
    """How many groups of each structure `rebuild(model)` leaves; the model is left as it is.

    Args:
        model: A built model of one network.
        structures: What may be cut.

    Returns:
        Structure name to a number of groups.
    """
    return {name: len(left) for name, left in _plan(model, structures, None).left.items()}


def _plan(model, structures, keep, replacements=None, never_empty=None, in_place=False) -> Plan:
    if never_empty is None:
        # What is hidden in a layer's `call`, or is cut where it is, keeps its place, and with it
        # what it does to masks.
        never_empty = [
            s.name
            for s in structures
            if (s.masked or s.takes_masks) and (in_place or not _is_called_in_graph(model, s))
        ]
    return Plan(structures, keep, replacements, layer_and_inner_layers(model), never_empty)


def _copied(model, structures, keep, plan, replacements=None) -> keras.Model:
    with nothing_for_random_values():
        small = _copy(model, structures, keep, plan, replacements)
    complete(small.variables)
    return small


def _copy(model, structures, keep, plan, replacements) -> keras.Model:
    if not is_plain(model):
        return pruned_copy(model, plan)
    rebuilder = GraphRebuilder(plan)
    small = rebuilder.rebuild(model)
    if plan.constants and not _same_masks(model, small, rebuilder):
        plan = _plan(model, structures, keep, replacements, [s.name for s in structures])
        small = GraphRebuilder(plan).rebuild(model)
    return small


def _is_called_in_graph(model, structure) -> bool:
    """Whether the layers of a structure are called by a plain model, not in a layer's `call`."""
    called = {id(node.operation) for node in nodes_of_plain(model)}
    return all(id(layer) in called for layer in structure.layers())


def _same_masks(model, small, rebuilder) -> bool:
    """Whether every layer that is left sees masks where its original did.

    An attention layer takes the masks off its inputs, so where one has become a constant a tensor
    may keep a mask that it had lost. Calls that only led to constants are no longer made.
    """
    varies = any(map(is_optional, _functional(model).inputs))
    for without_optional in (False, True) if varies else (False,):
        before, after = (masks_at_calls(_functional(m), without_optional) for m in (model, small))
        for old, new in rebuilder.copies.items():
            # A layer in a wrapper is copied as well, but it is the wrapper that is called.
            if old in before and Counter(after.get(id(new), ())) - Counter(before[old]):
                return False
    return True


def _functional(model):
    return functional_inside(model) if isinstance(model, keras.Sequential) else model


def _without(model: keras.Model, name: str) -> keras.Model:
    """A Functional model without the input of that name, if nothing reads it."""
    if not is_plain(model) or isinstance(model, keras.Sequential):
        return model
    unread = [x for x, known in zip(model.inputs, input_names(model), strict=True) if known == name]
    read = {id(x) for node in nodes_of(model) for x in node.input_tensors}
    if not unread or id(unread[0]) in read:
        return model
    inputs = inputs_struct(model)
    if isinstance(inputs, dict):
        inputs = {k: x for k, x in inputs.items() if x is not unread[0]}
    else:
        inputs = [x for x in inputs if x is not unread[0]]
        inputs = inputs[0] if len(inputs) == 1 else inputs
    return model_between(inputs, outputs_struct(model), model)


def _refuse_nan(structures) -> None:
    for structure in structures:
        for share in structure.slices:
            if not np.all(np.isfinite(view(share.variable))):
                raise ValueError(
                    f"`model` has weights that are not finite in layer {share.layer.name!r} "
                    f"({share.attribute}). Which groups matter cannot be told; load weights from "
                    "before the training diverged."
                )
