"""How the calls of a student are computed, for whole sentences or one position.

Each call of the graph has forms: ways to compute it, of which `proving` takes the first that
computes what the layer computes.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from keras import ops, tree

from tfprune.translation.student_layers import SSRU, SinusoidalPositions, sinusoids
from tfprune.translation.values import Values


class Step(NamedTuple):
    """What a form may look at in one step.

    Args:
        position: The number of the position, a scalar.
        old: Iterator over the states of all calls, from this one on.
        new: List to which a call adds its new states.
        kept: Iterator over what calls keep of the source, from this one on.
    """

    position: Any
    old: Any
    new: list[Any]
    kept: Any


class Form:
    """A way to compute a call.

    Args:
        node: The call.
    """

    def __init__(self, node: Any):
        self.node = node

    def fits(self) -> bool:
        """Whether it computes what the layer computes now, which a fit may have changed."""
        return True

    def start(self, batch: Any) -> list[Any]:
        """The states before the first word, for `batch` sentences."""
        return []

    def keep(self, values: Values) -> list[Any]:
        """What it keeps of the source, tensors `(batch, …)`, given the values of the encoder."""
        return []

    def run(self, values: Values, step: Step | None = None) -> None:
        """Adds the values of the outputs.

        Args:
            values: The values so far.
            step: What there is in a step; `None` for whole sentences.
        """
        raise NotImplementedError

    @functools.cached_property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the call by name, with symbolic tensors."""
        return arguments_of(self.node)


def arguments_of(node: Any) -> dict[str, Any]:
    """The arguments of a call by name, with symbolic tensors."""
    operation, given = node.operation, node.arguments
    # Of the class, since a fit replaces `call` of the layer itself.
    call = inspect.signature(type(operation).call)
    return call.bind(operation, *given.args, **given.kwargs).arguments


class Whole(Form):
    """The layer itself, on all positions that there are, `(batch, length, …)`.

    Args:
        node: The call.
        call: Function of an operation and its arguments that computes it.
    """

    def __init__(self, node: Any, call: Callable[..., Any]):
        super().__init__(node)
        self.call = call

    def run(self, values: Values, step: Step | None = None) -> None:
        """As in `Form`."""
        self._run(values.whole, values.set_whole)

    def _run(self, read, write):
        given = self.node.arguments
        args, kwargs = (tree.map_structure(read, each) for each in (given.args, given.kwargs))
        outputs = tree.flatten(self.call(self.node.operation, *args, **kwargs))
        for tensor, value in zip(self.node.outputs, outputs, strict=True):
            write(tensor, value)


class Rows(Whole):
    """The layer itself, on positions as rows, `(batch · length, …)`."""

    def run(self, values: Values, step: Step | None = None) -> None:
        """As in `Form`."""
        self._run(values.rows, values.set_rows)


class Recurrence(Form):
    """A step of an `SSRU`; its state is the cell, `(batch, width)`."""

    def start(self, batch: Any) -> list[Any]:
        """As in `Form`."""
        layer = self.node.operation
        return [ops.zeros((batch, layer.kernel.shape[1]), layer.compute_dtype)]

    def run(self, values: Values, step: Step | None = None) -> None:
        """As in `Form`."""
        assert step is not None
        layer: SSRU = self.node.operation
        output, cell = layer.step(values.rows(self.arguments["x"]), next(step.old))
        step.new.append(cell)
        values.set_rows(self.node.outputs[0], output)


class Position(Form):
    """A step of `SinusoidalPositions`: a row of a table.

    Args:
        node: The call.
        length: How many positions there are at most.
    """

    def __init__(self, node: Any, length: int):
        super().__init__(node)
        self.length = length

    def run(self, values: Values, step: Step | None = None) -> None:
        """As in `Form`."""
        assert step is not None
        layer: SinusoidalPositions = self.node.operation
        x = values.rows(self.arguments["x"])
        width = x.shape[-1]
        table = sinusoids(np.arange(self.length, dtype="float32"), width, np)
        # A slice of a constant: LiteRT would quantize a table that is gathered from.
        row = ops.slice(ops.convert_to_tensor(table, x.dtype), (step.position, 0), (1, width))
        values.set_rows(self.node.outputs[0], layer.scaled(x) + row)
