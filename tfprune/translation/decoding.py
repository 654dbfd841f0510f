"""Word-by-word decoding of any student, pruned or not.

A student is a graph that maps whole sentences to whole sentences. Most of its operations work on
each position alone; only a few mix positions. So one decoding step is the same graph, run on one
position, with those few replaced by a form that keeps a state. No second model is written down,
and a rebuilt student, whose layers are smaller or gone, is decoded by the same code.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops, tree

from tfprune.embeddings.factorized_embedding import FactorizedEmbedding, is_embedding
from tfprune.structures.elementwise import is_add
from tfprune.structures.graph import graph_of
from tfprune.structures.registry import describe_of
from tfprune.translation.attention_forms import KeptCrossAttention, KeptSelfAttention
from tfprune.translation.forms import Form, Position, Recurrence, Rows, Step, Whole, arguments_of
from tfprune.translation.output_rows import OutputRows
from tfprune.translation.plain_attention import (
    CausalSelfAttention,
    CrossAttention,
    SelfAttention,
    has_plain_heads,
)
from tfprune.translation.proving import proven_forms
from tfprune.translation.shortlist import Shortlist
from tfprune.translation.student_layers import SSRU, SinusoidalPositions
from tfprune.translation.values import Values


class StepDecoder:
    """Splits a student into an encoder and a decoding step.

    Args:
        model: A student, or what `tfprune.rebuild` made of one.
        max_length: The longest translation, in tokens.
        take: Function of a weight, ids and the axis along which the weight has an entry for each
            id, to the rows of an embedding, and with a shortlist of the output layer; by default
            `keras.ops.take`. An export may know a better operation.
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
        take: Callable[[Any, Any, int], Any] | None = None,
        shortlist: Shortlist | None = None,
    ):
        inputs = {t.name: t for t in model.inputs}
        if set(inputs) != {"source", "target"}:
            raise ValueError(
                "`model` must have the inputs 'source' and 'target', as `student` makes it. "
                f"Received: inputs {', '.join(sorted(inputs))}"
            )
        self.max_length = max_length
        self._take = take
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
        fixed = {}
        for node in self._decoder:
            for tensor in node.input_tensors:
                if id(tensor) not in self._changing:
                    fixed[id(tensor)] = tensor
        self._fixed = list(fixed.values())
        self._forms = proven_forms(self)
        self._listed: OutputRows | None = None
        if shortlist is not None:
            # Last, so that what it keeps stands at the end of all that is kept.
            made_by = next(n for n in graph.nodes if any(t is self.output for t in n.outputs))
            self._decoder = [*(n for n in self._decoder if n is not made_by), made_by]
            self._listed = OutputRows(made_by, shortlist, self.source, take)

    @property
    def nodes(self) -> tuple[list[Any], list[Any]]:
        """The calls of the encoder, and those of the decoder, in the order in which they run."""
        return self._encoder, self._decoder

    def changes(self, tensor: Any) -> bool:
        """Whether a symbolic tensor depends on the target."""
        return id(tensor) in self._changing

    @property
    def fixed(self) -> list[Any]:
        """The symbolic tensors of the encoder that the decoder reads."""
        return self._fixed

    def form_of(self, node: Any) -> Form:
        """The form that computes a call, the leanest that fits it now."""
        if self._listed is not None and node is self._listed.node:
            return self._listed
        return next(form for form in self._forms[id(node)] if form.fits())

    def forms_of(self, node: Any) -> Sequence[Form]:
        """The forms that may compute a call, the leanest first.

        In the encoder the last one is the layer itself, on whole sentences, which is always right.
        """
        layer, length = node.operation, self.max_length
        # What has no more axes than ids has, as a mask, gains nothing.
        has_width = len(node.outputs[0].shape) > 2
        own = [*([Rows(node, self.call)] if has_width else []), Whole(node, self.call)]
        is_attention, reads_target = self._attention(node)
        is_plain = is_attention and has_plain_heads(layer)
        if not self.changes(node.outputs[0]):
            return [SelfAttention(node), *own] if is_plain else own
        if is_attention and reads_target:
            kept = KeptSelfAttention(node, length)
            return [CausalSelfAttention(node, length), kept] if is_plain else [kept]
        if is_attention:
            return [*([CrossAttention(node)] if is_plain else []), KeptCrossAttention(node)]
        if isinstance(layer, SSRU):
            return [Recurrence(node)]
        if isinstance(layer, SinusoidalPositions):
            return [Position(node, length)]
        return own

    def _attention(self, node) -> tuple[bool, bool]:
        """Whether a call is attention, which mixes positions, and whether to the target."""
        layer = node.operation
        if not isinstance(layer, keras.Layer) or not describe_of(layer):
            return False, False
        arguments = arguments_of(node)
        if "value" not in arguments:  # It mixes no positions.
            return False, False
        return True, id(arguments["value"]) in self._changing

    def encode(self, source: Any, batch: Any = None) -> list[Any]:
        """Everything about the source that the steps read.

        Args:
            source: Ids `(batch, length)`, 0 for padding.
            batch: The batch size, where it is known.

        Returns:
            Tensors `(batch, …)`, to be given to `step`.
        """
        values = Values(ops.shape(source)[0] if batch is None else batch, -1)
        values.set_whole(self.source, source)
        for node in self._encoder:
            self.form_of(node).run(values)
        memory = [values.whole(tensor) for tensor in self._fixed]
        for node in self._decoder:
            memory += self.form_of(node).keep(values)
        return memory

    def candidates(self, memory: list[Any]) -> Any:
        """The pieces whose logits `step` returns.

        Args:
            memory: What `encode` returned.

        Returns:
            Ids `(batch, candidates)`, in no order and with repetitions, `(candidates,)` if `encode`
            was told that the batch is 1; `None` without a shortlist: all pieces in their order.
        """
        return None if self._listed is None else memory[-1]

    def repeat(self, memory: list[Any], times: int) -> list[Any]:
        """What `encode` returned, for `times` beginnings of each sentence, one after the other.

        What has no axis for the batch is read by all of them.
        """
        each = len(memory)
        if self._listed is not None and len(memory[-1].shape) == 1:
            each -= self._listed.number_kept
        return [*(ops.repeat(m, times, axis=0) for m in memory[:each]), *memory[each:]]

    def start(self, batch: Any) -> list[Any]:
        """The states before the first word, for `batch` sentences."""
        return [state for node in self._decoder for state in self.form_of(node).start(batch)]

    def step(
        self, word: Any, position: Any, memory: list[Any], states: list[Any]
    ) -> tuple[Any, list[Any]]:
        """Decodes one position.

        Args:
            word: The word before it, ids `(batch,)`.
            position: Its number, a scalar from 0.
            memory: What `encode` returned.
            states: What `start` or the last `step` returned.

        Returns:
            Logits `(batch, vocabulary)`, or `(batch, candidates)` with a shortlist, and the new
            states.
        """
        values = Values(-1, 1)
        for tensor, value in zip(self._fixed, memory, strict=False):
            values.set_whole(tensor, value)
        values.set_rows(self.target, word)
        step = Step(position, iter(states), [], iter(memory[len(self._fixed) :]))
        for node in self._decoder:
            self.form_of(node).run(values, step)
        return values.rows(self.output), step.new

    def call(self, operation: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        """What an operation computes, with embeddings looked up as an export wants it."""
        if is_add(operation):
            # `ops.add` squeezes the row of a single sentence, of which LiteRT then has no shape.
            summands = tree.flatten((args, kwargs))
            if len({getattr(x, "dtype", None) for x in summands}) == 1:
                return functools.reduce(operator.add, summands)
        # A tied embedding is in the graph once more, reversed, as the output layer.
        if self._take is None or not is_embedding(operation) or kwargs.get("reverse"):
            return operation(*args, **kwargs)
        rows = ops.cast(self._take(operation.embeddings, args[0], 0), operation.compute_dtype)
        return operation.project(rows) if isinstance(operation, FactorizedEmbedding) else rows
