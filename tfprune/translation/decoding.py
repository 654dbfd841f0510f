"""Word-by-word decoding of any student, pruned or not.

A student is a graph that maps whole sentences to whole sentences. Most of its operations work on
each position alone; only a few mix positions. So one decoding step is the same graph, run on one
position, with those few replaced by a form that keeps a state. No second model is written down,
and a rebuilt student, whose layers are smaller or gone, is decoded by the same code.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops, tree

from tfprune.embeddings.factorized_embedding import FactorizedEmbedding, is_embedding
from tfprune.keras_private.attention import attend, projections
from tfprune.structures.graph import graph_of
from tfprune.structures.registry import describe_of
from tfprune.translation.output_rows import OutputRows
from tfprune.translation.proving import prove
from tfprune.translation.shortlist import Shortlist
from tfprune.translation.student_layers import SSRU, SinusoidalPositions


class StepDecoder:
    """Splits a student into an encoder and a decoding step.

    Args:
        model: A student, or what `tfprune.rebuild` made of one.
        max_length: The longest translation, in tokens.
        lookup: Function of an embedding's table `(vocabulary, width)` and ids to its rows; by
            default the embedding looks them up itself. An export may know a better operation.
        shortlist: The pieces whose logits are computed, `None` for all.

    Raises:
        ValueError: If the model has no inputs called `source` and `target`, one of its operations
            computes something else position by position than at once, or there is a shortlist and
            the logits are not made by an output layer that `OutputRows` knows.
    """

    def __init__(
        self,
        model: keras.Model,
        max_length: int,
        lookup: Callable[[Any, Any], Any] | None = None,
        shortlist: Shortlist | None = None,
    ):
        inputs = {t.name: t for t in model.inputs}
        if set(inputs) != {"source", "target"}:
            raise ValueError(
                "`model` must have the inputs 'source' and 'target', as `student` makes it. "
                f"Received: inputs {', '.join(sorted(inputs))}"
            )
        self.max_length = max_length
        self._lookup = lookup
        self.source, self.target = inputs["source"], inputs["target"]
        self.output = model.outputs[0]
        graph = graph_of(model)
        self._changing = {id(self.target)}
        self._encoder, self._decoder = [], []
        for node in graph.nodes:
            if node.is_input:
                continue
            if any(id(t) in self._changing for t in node.input_tensors):
                self._changing.update(id(t) for t in node.outputs)
                self._decoder.append(node)
            else:
                self._encoder.append(node)
        self._mixers = {id(n): m for n in self._decoder if (m := self._mixer(n)) is not None}
        fixed = {}
        for node in self._decoder:
            for tensor in node.input_tensors:
                if id(tensor) not in self._changing:
                    fixed[id(tensor)] = tensor
        self._fixed = list(fixed)
        self._shortlist = shortlist
        self._rows: OutputRows | Any = None  # None without a shortlist.
        if shortlist is not None:
            made_by = (n for n in graph.nodes if any(t is self.output for t in n.outputs))
            self._rows = OutputRows(next(made_by))
        prove(self)

    @property
    def nodes(self) -> tuple[list[Any], list[Any]]:
        """The calls of the encoder, and those of the decoder, in the order in which they run."""
        return self._encoder, self._decoder

    def changes(self, tensor: Any) -> bool:
        """Whether a symbolic tensor depends on the target."""
        return id(tensor) in self._changing

    def _mixer(self, node):
        layer = node.operation
        if isinstance(layer, SSRU):
            return _Recurrence(layer)
        if isinstance(layer, SinusoidalPositions):
            return _Position(layer)
        if isinstance(layer, keras.Layer) and describe_of(layer):
            bound = inspect.signature(layer.call).bind(
                *node.arguments.args, **node.arguments.kwargs
            )
            if "value" not in bound.arguments:  # It mixes no positions.
                return None
            if id(bound.arguments["value"]) in self._changing:
                return _SelfAttention(layer, self.max_length)
            return _CrossAttention(layer)
        return None

    def encode(self, source: Any) -> list[Any]:
        """Everything about the source that the steps read.

        Args:
            source: Ids `(batch, length)`, 0 for padding.

        Returns:
            Tensors, to be given to `step`.
        """
        values = {id(self.source): source}
        for node in self._encoder:
            self.run(node, values)
        memory = [values[i] for i in self._fixed]
        for node in self._decoder:
            memory += self.keys_and_values(node, values)
        if self._shortlist is not None:
            candidates = self._shortlist.candidates(source)
            memory += [*self._rows.gather(candidates), candidates]
        return memory

    def candidates(self, memory: list[Any]) -> Any:
        """The pieces whose logits `step` returns.

        Args:
            memory: What `encode` returned.

        Returns:
            Ids `(batch, candidates)`, in no order and with repetitions; `None` without a shortlist:
            all pieces in their order.
        """
        return None if self._shortlist is None else memory[-1]

    def keys_and_values(self, node: Any, values: dict[int, Any]) -> list[Any]:
        """What a call of the decoder keeps of the source, given the values of tensors by id."""
        mixer = self._mixers.get(id(node))
        if not isinstance(mixer, _CrossAttention):
            return []
        arguments = _bound(node, values)
        parts = projections(mixer.layer)
        key = arguments.get("key", arguments["value"])
        return [parts.key(key), parts.value(arguments["value"])]

    def start(self, batch: Any) -> list[Any]:
        """The states before the first word, for `batch` sentences."""
        return [state for m in self._mixers.values() for state in m.start(batch)]

    def step(self, word: Any, position: Any, memory: list[Any], states: list[Any]):
        """Decodes one position.

        Args:
            word: The word before it, ids `(batch, 1)`.
            position: Its number, a scalar from 0.
            memory: What `encode` returned.
            states: What `start` or the last `step` returned.

        Returns:
            Logits `(batch, vocabulary)`, or `(batch, candidates)` with a shortlist, and the new
            states.
        """
        values = dict(zip(self._fixed, memory, strict=False))
        values[id(self.target)] = word
        keys_and_values = iter(memory[len(self._fixed) :])
        old = iter(states)
        new: list[Any] = []
        for node in self._decoder:
            if self._shortlist is None or node is not self._rows.node:
                self.step_of(node, values, position, old, new, keys_and_values)
        if self._shortlist is not None:
            *rows, _ = keys_and_values
            return self._rows.logits(values[id(self._rows.read)], *rows), new
        # Not a slice, which LiteRT copies number by number.
        return ops.squeeze(values[id(self.output)], axis=1), new

    def states_of(self, node: Any, batch: Any) -> list[Any] | None:
        """The states of one call before the first word, `None` if it treats each position alone."""
        mixer = self._mixers.get(id(node))
        return None if mixer is None else mixer.start(batch)

    def step_of(self, node, values, position, old, new, keys_and_values) -> None:
        """One call of the decoder, at one position.

        Args:
            node: The call.
            values: Values of tensors by id, to which its output is added.
            position: The position.
            old: Iterator over the states of all calls, from this one on.
            new: List to which its new states are added.
            keys_and_values: Iterator over what is kept of the source, from this call on.
        """
        mixer = self._mixers.get(id(node))
        if mixer is None:
            self.run(node, values)
        else:
            context = _Context(_bound(node, values), position, old, new, keys_and_values)
            values[id(node.outputs[0])] = mixer.step(context)

    def run(self, node: Any, values: dict[int, Any]) -> None:
        """One call on whatever positions its inputs have; its outputs are added to `values`."""
        args, kwargs = _filled(node, values)
        layer = node.operation
        # A tied embedding is in the graph once more, reversed, as the output layer.
        if self._lookup and is_embedding(layer) and not kwargs.get("reverse"):
            outputs = ops.cast(self._lookup(layer.embeddings, args[0]), layer.compute_dtype)
            if isinstance(layer, FactorizedEmbedding):
                outputs = layer.project(outputs)
        else:
            outputs = layer(*args, **kwargs)
        for tensor, value in zip(node.outputs, tree.flatten(outputs), strict=True):
            values[id(tensor)] = value


@dataclass
class _Context:
    """What a mixer may look at in one step."""

    arguments: dict[str, Any]
    position: Any
    old: Any
    new: list[Any]
    keys_and_values: Any


class _Recurrence:
    def __init__(self, layer):
        self.layer = layer

    def start(self, batch):
        return [ops.zeros((batch, 1, self.layer.kernel.shape[1]), self.layer.compute_dtype)]

    def step(self, context):
        output, cell = self.layer.step(context.arguments["x"], next(context.old))
        context.new.append(cell)
        return output


class _Position:
    def __init__(self, layer):
        self.layer = layer

    def start(self, batch):
        return []

    def step(self, context):
        return self.layer(context.arguments["x"], offset=context.position)


class _CrossAttention:
    def __init__(self, layer):
        self.layer = layer

    def start(self, batch):
        return []

    def step(self, context):
        key, value = next(context.keys_and_values), next(context.keys_and_values)
        return _attend(self.layer, context, key, value, context.arguments.get("attention_mask"))


class _SelfAttention:
    def __init__(self, layer, max_length):
        self.layer = layer
        self.parts = projections(layer)
        self.max_length = max_length

    def start(self, batch):
        return [
            ops.zeros((batch, self.max_length, *dense.kernel.shape[1:]), self.layer.compute_dtype)
            for dense in (self.parts.key, self.parts.value)
        ]

    def step(self, context):
        positions = ops.arange(self.max_length)
        here = ops.reshape(positions == context.position, (1, -1, 1, 1))
        x = context.arguments["value"]
        projected = self.parts.key(x), self.parts.value(x)
        key, value = (
            ops.where(here, ops.cast(new, old.dtype), old)
            for new, old in zip(projected, (next(context.old), next(context.old)), strict=True)
        )
        context.new += [key, value]
        mask = ops.reshape(positions <= context.position, (1, 1, -1))
        return _attend(self.layer, context, key, value, mask)


def _attend(layer, context, key, value, mask):
    parts = projections(layer)
    query = parts.query(context.arguments["query"])
    if mask is not None:
        mask = ops.cast(mask, "bool")
    output = attend(layer, query, key, value, mask)
    if parts.gate is not None:
        output = output * parts.gate(context.arguments["query"])
    return parts.output(output)


def _bound(node, values):
    args, kwargs = _filled(node, values)
    return inspect.signature(node.operation.call).bind(*args, **kwargs).arguments


def _filled(node, values):
    def replace(x):
        return values.get(id(x), x)

    return (
        tree.map_structure(replace, node.arguments.args),
        tree.map_structure(replace, node.arguments.kwargs),
    )
