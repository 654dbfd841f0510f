"""How a Keras optimizer keeps its variables: slots, the indices of weights, what is exempt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops


def nested(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    """An optimizer and those inside it, outermost first.

    Assumes: a `LossScaleOptimizer` has an `inner_optimizer`, a `MultiOptimizer` has `optimizers`.
    """
    found = [optimizer]
    inner = getattr(optimizer, "inner_optimizer", None)
    if inner is not None:
        found += nested(inner)
    return found + list(getattr(optimizer, "optimizers", ()))


def innermost(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer inside a `LossScaleOptimizer`, or the optimizer itself."""
    while getattr(optimizer, "inner_optimizer", None) is not None:
        optimizer = optimizer.inner_optimizer
    return optimizer


def trained_by(optimizer: keras.optimizers.Optimizer, variable) -> keras.optimizers.Optimizer:
    """The innermost of the nested optimizers that trains a variable.

    Assumes: a built optimizer lists what it trains in `_trainable_variables`.
    """
    for candidate in reversed(nested(optimizer)):
        if any(v is variable for v in candidate._trainable_variables):
            return candidate
    return innermost(optimizer)


def default_optimizer(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer that gets a variable which no rule of a `MultiOptimizer` names.

    Assumes: a `MultiOptimizer` keeps its rules in `_optimizer_map`, and an `OptimizerMap` has a
    `default_optimizer`.
    """
    optimizer = innermost(optimizer)
    rules = getattr(optimizer, "_optimizer_map", None)
    if rules is None:
        return optimizer
    default = getattr(rules, "default_optimizer", None)
    return default or optimizer.optimizers[0]


_STEPS = (0, 1, 10, 100, 1000, 10000)


def highest_learning_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """The learning rate, or the highest of some steps where a schedule or a function sets it.

    Assumes: `_learning_rate` is a variable, a `LearningRateSchedule` or a function of no argument.
    """
    rate = default_optimizer(optimizer)._learning_rate
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        # A schedule may start at zero.
        rates = [rate(step) for step in _STEPS]
    elif callable(rate) and not isinstance(rate, keras.Variable):
        rates = [rate()]
    else:
        rates = [rate]
    return max(float(ops.convert_to_numpy(r)) for r in rates)


def slots(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> list[keras.Variable]:
    """The variables of an optimizer that belong to one weight and have its shape.

    They are momentum, velocity, accumulated gradients, a moving average and the like.

    Assumes: each kind of slot is a list parallel to `_trainable_variables`.
    """
    found = []
    for one in nested(optimizer):
        trained = one._trainable_variables
        place = next((i for i, v in enumerate(trained) if v is variable), None)
        if place is None:
            continue
        for value in vars(one).values():
            if isinstance(value, list) and len(value) == len(trained) and value is not trained:
                slot = value[place]
                if (
                    isinstance(slot, keras.Variable)
                    and slot is not variable
                    and slot.shape == variable.shape
                ):
                    found.append(slot)
    return found


class AddedVariables:
    """Variables that an optimizer trains for a while, with slots of their own.

    Keras optimizers refuse variables that were not there when they were built. Here the lists of
    the same optimizer object are extended, and set back again: its step, its slots and whatever
    refers to it stay.

    Assumes: `build(variables)` makes one slot of each kind for each variable, in lists parallel to
    `_trainable_variables`; `_trainable_variables_indices` maps `_var_key(variable)` to a place in
    them; `_variables` holds all variables of the optimizer and is filled by `_tracker`; weight
    decay spares the keys in `_exclude_from_weight_decay`.

    Args:
        optimizer: An optimizer; it is built if it is not yet.
        own: The weights that it trains without the added ones.
        added: Variables to train as well.
        order: All of them, in the order in which the model lists its trainable variables.
        kept: Further variables that the compiled step reads and that are saved with the optimizer.
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        own: Sequence[keras.Variable],
        added: Sequence[keras.Variable],
        order: Sequence[keras.Variable],
        kept: Sequence[keras.Variable] = (),
    ):
        if not optimizer.built:
            optimizer.build(list(own))
        self._parts = [_Extended(one) for one in nested(optimizer)]
        if added:
            for part in self._parts:
                vars(part.optimizer)["built"] = False
            try:
                optimizer.build(list(added))
            except BaseException:
                for part in self._parts:
                    part.forget_build()
                raise
        places = {id(v): i for i, v in enumerate(order)}
        for part in self._parts:
            part.merge(places, {id(v) for v in added})
        holder = innermost(optimizer)
        next(p for p in self._parts if p.optimizer is holder).extra += list(kept)
        self.apply()

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables that the optimizer has in addition: slots of what was added, and `kept`."""
        return [v for part in self._parts for v in part.extra]

    def apply(self) -> None:
        """Lets the optimizer train the added variables."""
        for part in self._parts:
            part.apply()

    def remove(self) -> None:
        """Lets it be as it was before; what it has learned about its own weights stays."""
        for part in reversed(self._parts):
            part.remove()

    @contextmanager
    def removed(self) -> Iterator[None]:
        """`remove` for the time of a `with` block."""
        self.remove()
        try:
            yield
        finally:
            self.apply()


class _Extended:
    """One of the nested optimizers, as it is with and without the added variables."""

    def __init__(self, optimizer):
        self.optimizer = optimizer
        self.own = list(optimizer._trainable_variables)
        self.before = dict(vars(optimizer))
        self._contents = {
            name: _copied(value)
            for name, value in self.before.items()
            if isinstance(value, (list, dict, set))
        }
        self.after: dict[str, Any] = {}
        self.extra: list[keras.Variable] = []

    def forget_build(self) -> None:
        """Sets all attributes back, with the contents that their lists had."""
        tracked = list(self.optimizer._variables)
        known = {id(v) for v in self._contents["_variables"]}
        for variable in tracked:
            if id(variable) not in known:
                self.optimizer._tracker.untrack(variable)
        for name, value in self.before.items():
            if name in self._contents and name != "_variables":
                _refill(value, self._contents[name])
        # New attributes stay away too, but an optimizer that was built has none.
        vars(self.optimizer).clear()
        vars(self.optimizer).update(self.before)

    def merge(self, places: dict[int, int], added: set[int]) -> None:
        """Works out the attributes with the added variables; the optimizer is set back."""
        built = dict(vars(self.optimizer))
        new_variables = [v for v in self.optimizer._trainable_variables if id(v) in added]
        known = {id(v) for v in self._contents["_variables"]}
        made = [v for v in self.optimizer._variables if id(v) not in known]
        contents = {n: _copied(v) for n, v in built.items() if isinstance(v, (list, dict))}
        self.forget_build()
        everything = [*self.own, *new_variables]
        order = sorted(
            range(len(everything)), key=lambda i: places.get(id(everything[i]), len(places) + i)
        )
        # What is attached to a model may change the order of its own variables too.
        if order == list(range(len(self.own))):
            return
        used = set()
        for name, old in self._contents.items():
            new = contents.get(name)
            if name in ("_trainable_variables", "_variables") or new is None:
                continue
            if name.startswith("_self_"):
                continue  # TensorFlow's records for its own checkpoints.
            if isinstance(old, dict):
                self.after[name] = {**new, **old}
            elif isinstance(old, list) and len(old) == len(self.own) and _all_variables(old):
                rebuilt = built[name] is not self.before[name] and len(new) == len(new_variables)
                if new_variables and not rebuilt:
                    continue
                both = [*old, *new] if new_variables else old
                used |= {id(v) for v in both[len(old) :]}
                self.after[name] = [both[i] for i in order]
        self.after["_trainable_variables"] = [everything[i] for i in order]
        key = self.optimizer._var_key
        self.after["_trainable_variables_indices"] = {
            key(everything[i]): place for place, i in enumerate(order)
        }
        spared = self.before.get("_exclude_from_weight_decay") or set()
        self.after["_exclude_from_weight_decay"] = {*spared, *(key(v) for v in new_variables)}
        self.after["_exclude_from_weight_decay_cache"] = {}
        self.extra = [v for v in made if id(v) in used]

    def apply(self):
        vars(self.optimizer).update(self.after)
        for variable in self.extra:
            self.optimizer._tracker.add_to_store("variables", variable)

    def remove(self):
        for variable in self.extra:
            self.optimizer._tracker.untrack(variable)
        for name in self.after:
            if name in self.before:
                vars(self.optimizer)[name] = self.before[name]
            else:
                vars(self.optimizer).pop(name, None)
        _settle_records(self.optimizer)


def _settle_records(optimizer) -> None:
    """Lets TensorFlow save an optimizer whose lists were changed and set back.

    TensorFlow refuses to write a SavedModel of an object with a list from which something was
    removed, since a checkpoint numbers the entries. Here they are what they were before.
    """
    for value in vars(optimizer).values():
        if hasattr(value, "_non_append_mutation"):  # A list as TensorFlow tracks it.
            value._non_append_mutation = value._external_modification = False
        elif hasattr(value, "_self_external_modification"):  # A dictionary.
            value._self_external_modification = False
        else:
            continue
        value._update_snapshot()


def _all_variables(values) -> bool:
    return all(value is None or isinstance(value, keras.Variable) for value in values)


def _copied(value):
    plain = next(kind for kind in (list, dict, set) if isinstance(value, kind))
    return plain(value)


def _refill(container, contents) -> None:
    """Gives a list, dictionary or set its contents back, if they are not the same."""
    if isinstance(container, list):
        if [id(x) for x in container] != [id(x) for x in contents]:
            container[:] = contents
    else:
        container.clear()
        container.update(contents)
