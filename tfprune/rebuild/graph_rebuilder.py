"""Rebuilds Functional and Sequential models: the same graph, called on smaller layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.copying import copy_from_config
from tfprune.keras_private.functional import (
    call_with,
    calls_of,
    functional_inside,
    input_like,
    inputs_struct,
    is_nothing_but_its_graph,
    node_of,
    nodes_of,
    operation_of,
    outputs_struct,
)
from tfprune.keras_private.layers import (
    inner_layers,
    layer_and_inner_layers,
    plain_variable,
)
from tfprune.rebuild.assets import give_assets
from tfprune.rebuild.attributes import carry_over, carry_over_inside
from tfprune.rebuild.constants import Constant, Unread, as_layer, first_given, through
from tfprune.rebuild.plan import Plan
from tfprune.rebuild.pruned import cannot_copy, keeps_its_cuts, pruned_copy
from tfprune.structures.biases import output_bias
from tfprune.structures.dense import cannot_consume, is_dense
from tfprune.structures.elementwise import is_add, is_identity
from tfprune.structures.graph import Graph, graph_of
from tfprune.structures.masks import is_masked


def is_plain(model) -> bool:
    """Whether a model is Sequential, or was made from inputs and outputs, whatever its class."""
    return type(model) is keras.Sequential or is_nothing_but_its_graph(model)


def model_between(inputs, outputs, model):
    """A model of the class, the name and the trainable flag of another one."""
    made = type(model)(inputs, outputs, name=model.name)
    if not model.trainable:  # Setting it to true would undo the flags of single layers.
        made.trainable = False
    return made


def nodes_of_plain(model, seen: set[int] | None = None) -> Iterator[Any]:
    """The nodes of a plain model and of the plain models in it, each model once."""
    seen = set() if seen is None else seen
    if not is_plain(model) or id(model) in seen:
        return
    seen.add(id(model))
    for node in graph_of(model).nodes:
        yield node
        yield from nodes_of_plain(node.operation, seen)


class GraphRebuilder:
    """Rebuilds one model and the plain models nested in it.

    Args:
        plan: What is removed and what stays.
    """

    def __init__(self, plan: Plan):
        self.plan = plan
        self.copies: dict[int, Any] = {}
        self.constants: dict[str, list[keras.layers.Dense]] = {}  # as `as_layer` takes them
        self.uses: Counter[int] = Counter()  # calls of each layer, in the old models

    def rebuild(self, model):
        """The smaller copy of a Functional or Sequential model."""
        if not self.uses:
            self._count_uses(model)
        return _OneModel(model, self).run()

    def _count_uses(self, model) -> None:
        """Counts the calls of layers before any copy is called."""
        for node in nodes_of_plain(model):
            operation = node.operation
            self.uses[id(operation)] += 1
            if isinstance(operation, keras.Layer) and not is_plain(operation):
                # Inside, a layer may be called any number of times.
                self.uses.update(2 * [id(x) for x in inner_layers(operation)])

    def copy(self, operation):
        """The copy of a layer or operation, smaller where the plan says so; one for each."""
        if id(operation) not in self.copies:
            self.copies[id(operation)] = self._copy(operation)
        return self.copies[id(operation)]

    def _copy(self, operation):
        if is_plain(operation):
            return self.rebuild(operation)
        if keeps_its_cuts(operation, self.plan):
            return pruned_copy(operation, self.plan)
        if id(operation) in self.plan.replacements:
            other, config, _ = self.plan.replacements[id(operation)]
            return other.from_config(config)
        try:
            copy = copy_from_config(operation, self.plan.configs.get(id(operation)))
        except Exception as error:  # Whatever user code raises.
            raise cannot_copy(operation, error) from error
        if hasattr(operation, "_cuts") and not copy.built:
            # As its class builds it, before the cuts: what it is given now may be narrower.
            copy.build_from_config(operation.get_build_config())
        if not self.plan.touches(operation):
            carry_over(operation, copy, last=False)  # They may say how wide its output is.
        return copy

    def give_weights(self, old, new) -> None:
        """Copies the weights of a plain layer once it is built."""
        if keeps_its_cuts(old, self.plan):
            return  # It has them already or takes them when it is built.
        if self.plan.touches(old) and id(old) not in self.plan.replacements:
            carry_over(old, new, self.plan.configs.get(id(old), {}))
        elif not self.plan.touches(old):
            carry_over_inside(old, new)
        give_weights(old, new, self.plan)


def give_weights(old, new, plan: Plan) -> None:
    """Gives `new` the weights of `old`, folded and cut as the plan says."""
    if id(old) in plan.replacements:
        new.set_weights(plan.replacements[id(old)][2])
        return
    before, after = old.weights, new.weights
    if len(before) != len(after):
        raise _other_weights(old, len(before), len(after))
    pairs = list(zip(before, after, strict=True))
    # A dropout whose rate was set to 0 after it was built has a state of random numbers, and its
    # copy has none.
    states = _states(old), _states(new)
    if len(states[0]) == len(states[1]):
        pairs += zip(*states, strict=True)
    for source, target in pairs:
        plan.values.hand_over(source, target)
    give_assets(old, new)


def _states(layer):
    """Variables that are no weights: of metrics and of random numbers."""
    weights = {id(v) for v in layer.weights}
    return [v for v in layer.variables if id(v) not in weights]


def _other_weights(old, before, after):
    cls = type(old).__name__
    if any(getattr(layer, "lora_enabled", False) for layer in layer_and_inner_layers(old)):
        return ValueError(
            f"`rebuild` cannot copy the layer {old.name!r}: its configuration does not say that it "
            "has LoRA weights. Either merge them: `model.save(path)`, then "
            "`keras.saving.load_model(path)`; or cut the model itself: "
            "`rebuild(model, in_place=True)`."
        )
    return ValueError(
        f"`rebuild` cannot copy the layer {old.name!r}: it has {before} weights, and the {cls} "
        f"that its `get_config()` describes has {after}. Either correct it; or cut the model "
        "itself: `rebuild(model, in_place=True)`."
    )


class _OneModel:
    def __init__(self, model, rebuilder: GraphRebuilder):
        self.model = model
        self.rebuilder = rebuilder
        self.plan = rebuilder.plan
        self.graph: Graph = graph_of(model)
        sequential = isinstance(model, keras.Sequential)
        functional = functional_inside(model) if sequential else model
        assert functional is not None  # The model is built.
        self.functional = functional
        self.values: dict[int, Any] = {}  # old tensor -> new tensor, Constant or Unread
        self.aliases: dict[int, list[Any]] = {}  # new tensor -> old tensors it stands for
        self.dropped: set[int] = set()  # additions that became nothing
        self.needed = self._needed()
        calls = self.plan.calls.get(id(model), {})
        self.written = {
            id(node.operation): calls[number]
            for number, node in enumerate(nodes_of(functional))
            if number in calls
        }

    def run(self):
        narrower = self.plan.entered.get(id(self.model), {})
        shapes = {
            id(t): (*t.shape[:-1], narrower[number])
            for number, t in enumerate(self.functional.inputs)
            if number in narrower
        }
        inputs = tree.map_structure(
            lambda t: input_like(t, shapes.get(id(t))),
            inputs_struct(self.functional),
        )
        for old, new in zip(
            tree.flatten(inputs_struct(self.functional)), tree.flatten(inputs), strict=True
        ):
            self._set(old, new)
        for node in self.graph.nodes:
            if not node.is_input:
                self._run(node)
        outputs = tree.map_structure(self._tensor, outputs_struct(self.functional))
        if isinstance(self.model, keras.Sequential):
            return self._sequential(tree.flatten(inputs)[0], outputs)
        return model_between(inputs, outputs, self.model)

    def _sequential(self, source, outputs):
        layers = []
        tensor = outputs
        while not isinstance(operation_of(tensor), keras.layers.InputLayer):
            layers.append(operation_of(tensor))
            tensor = node_of(tensor).input_tensors[0]
        rebuilt = keras.Sequential([input_like(source), *reversed(layers)], name=self.model.name)
        if not self.model.trainable:
            rebuilt.trainable = False
        return rebuilt

    # -- one call ----------------------------------------------------------------------------

    def _run(self, node):
        operation = node.operation
        given = [self.values[id(t)] for t in node.input_tensors]
        if id(operation) in self.plan.constants:
            vector = self.plan.constants[id(operation)]
            masked = self.graph.is_masked(node.outputs[0])
            like = _like(self.values[id(first_given(node))])
            constant = Constant(vector, like, operation.name, masked, operation.dtype_policy)
            self._set(node.outputs[0], constant)
            return
        if id(operation) in self.plan.gone or any(isinstance(x, Unread) for x in given):
            self._set(node.outputs[0], Unread(_like(given[0])))
            return
        constants = [x for x in given if isinstance(x, Constant)]
        if constants and self._without_call(node, given, constants):
            return
        self._call(node)

    def _without_call(self, node, given, constants) -> bool:
        """Handles a call that has constants among its inputs, if it need not be made."""
        if len(given) == 1:
            masked = self.graph.is_masked(node.outputs[0])
            behind = through(node.operation, constants[0], masked)
            if behind is None:
                behind = self._through_dense(node, constants[0])
            if behind is not None:
                self._set(node.outputs[0], behind)
                return True
        if is_add(node.operation) and len(given) == len(constants) > 1:
            return self._add_constants(node, constants)
        if is_add(node.operation) and len(given) == 2 and len(constants) == 1:
            constant = constants[0]
            x = next(g for g in given if g is not constant)
            # Without the addition `x` goes on with its own mask, so that must be the same too.
            masked = self._is_masked(x)
            same = tuple(x.shape) == tuple(node.outputs[0].shape) and (
                masked == self.graph.is_masked(node.outputs[0])
            )
            if same and (not np.any(constant.vector) or self._absorb(node, x, constant.vector)):
                self.dropped.add(id(node))
                self._set(node.outputs[0], x)
                return True
            if same and masked == constant.masked:
                # Its positions are those of the residual; what computed its own can go.
                old = next(t for t in node.input_tensors if self.values[id(t)] is constant)
                self.values[id(old)] = replace(constant, like=x)
        return False

    def _add_constants(self, node, constants) -> bool:
        """Adds constants now, if each is as wide and as long as their sum."""
        output = node.outputs[0]
        for constant in constants:
            shape = (*constant.like.shape[:-1], len(constant.vector))
            if shape != tuple(output.shape):
                return False
        total = sum(constant.vector for constant in constants)
        masked = self.graph.is_masked(output)
        self._set(output, replace(constants[0], vector=total, masked=masked))
        return True

    def _through_dense(self, node, constant) -> Constant | None:
        """The constant behind a dense layer that is called nowhere else, `None` for others."""
        layer = node.operation
        if not is_dense(layer) or cannot_consume(layer) or self.rebuilder.uses[id(layer)] > 1:
            return None
        vector = constant.vector.astype("float64") @ self.plan.values.value(
            plain_variable(layer, "kernel")
        )
        if layer.bias is not None:
            if len(layer.bias.shape) != 1:
                return None
            vector = vector + self.plan.values.value(plain_variable(layer, "bias"))
        if layer.activation is not None:
            vector = layer.activation(keras.ops.cast(vector[None], "float32"))[0]
        return replace(
            constant,
            vector=keras.ops.convert_to_numpy(vector).astype("float32"),
            name=layer.name,
            masked=self.graph.is_masked(node.outputs[0]),
            policy=layer.dtype_policy,
        )

    def _call(self, node):
        def new(x):
            return self._tensor(x) if id(x) in self.values else x

        copy, given = node.operation, (node.arguments.args, node.arguments.kwargs)
        if isinstance(copy, keras.Layer):
            copy = self.rebuilder.copy(copy)
        elif id(copy) in self.written:  # Operations of keras.ops hold no weights.
            copy, given = call_with(node, self.written[id(copy)])
        args, kwargs = tree.map_structure(new, given)
        is_new = isinstance(copy, keras.Layer) and not calls_of(copy)
        outputs = copy(*args, **kwargs)
        if is_new and not is_plain(node.operation):
            self.rebuilder.give_weights(node.operation, copy)
        for old, new in zip(node.outputs, tree.flatten(outputs), strict=True):
            self._set(old, new)

    def _set(self, old, new):
        self.values[id(old)] = new
        if isinstance(new, keras.KerasTensor):
            self.aliases.setdefault(id(new), []).append(old)

    def _tensor(self, old):
        value = self.values[id(old)]
        if isinstance(value, Constant):
            value = as_layer(
                value,
                self.rebuilder.constants,
                isinstance(self.model, keras.Sequential),
                self._is_masked(value.like),
            )
            self._set(old, value)
        return value

    def _is_masked(self, new) -> bool:
        """Whether a tensor of the rebuilt model carries a mask, or stands for one that did."""
        return is_masked(new) or any(map(self.graph.is_masked, self.aliases.get(id(new), ())))

    # -- folding a constant into a bias that was added before ---------------------------------

    def _absorb(self, reader, x, vector) -> bool:
        """Adds a constant to the bias behind `x`, if nobody but `reader` sees `x`."""
        if self._seen_by_others(x, reader):
            return False
        node = node_of(x)
        if node is None:
            return False
        layer = node.operation
        old = self._node_of(x)
        # Its copy may have been called once so far, and be called again.
        uses = len(calls_of(layer)) if old is None else self.rebuilder.uses[id(old.operation)]
        bias = output_bias(layer) if isinstance(layer, keras.Layer) else None
        if bias is not None and uses == 1 and bias.shape == vector.shape:
            bias.assign_add(vector)
            return True
        if old is None or id(old) in self.dropped:
            return False
        if is_identity(layer):
            return self._absorb(old, node.input_tensors[0], vector)
        if is_add(layer):
            return any(
                self._absorb(old, t, vector)
                for t in node.input_tensors
                if tuple(t.shape) == tuple(x.shape)
            )
        return False

    def _node_of(self, x):
        for old in self.aliases.get(id(x), []):
            node = self.graph.producer(old)
            if node is not None and id(node) not in self.dropped:
                return node
        return None

    def _seen_by_others(self, x, reader) -> bool:
        for old in self.aliases.get(id(x), []):
            if self.graph.leaves(old):
                return True
            for node in self.graph.consumers(old):
                if node is not reader and id(node) not in self.dropped and id(node) in self.needed:
                    return True
        return False

    def _needed(self) -> set[int]:
        """The nodes whose result still matters once constants take the place of layers."""
        needed: set[int] = set()
        pending = [self.graph.producer(t) for t in self.graph.outputs]
        while pending:
            node = pending.pop()
            if node is None or id(node) in needed:
                continue
            needed.add(id(node))
            if id(node.operation) not in self.plan.constants:
                pending.extend(self.graph.producer(t) for t in node.input_tensors)
        return needed


def _like(value):
    return value.like if isinstance(value, (Constant, Unread)) else value


__all__ = ["GraphRebuilder", "give_weights", "is_plain", "model_between", "nodes_of_plain"]
