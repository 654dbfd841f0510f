"""Counts the floating-point operations of a TensorFlow graph, loops and called functions too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np


def flops_of_graph(graph: Any) -> int:
    """The operations of one run of a graph of static shapes.

    Args:
        graph: A `FuncGraph`.

    Raises:
        ValueError: If it cannot be told how often a loop runs, or a shape is not known.
    """
    return _Scope(graph, None, ()).flops()


class _Scope:
    """One call of a graph.

    Args:
        graph: The `FuncGraph` that is called.
        caller: The scope that calls it.
        given: The tensors of the caller that it is called on, `None` for those that change from
            turn to turn of a loop.
    """

    def __init__(self, graph, caller: _Scope | None, given: Sequence[Any]):
        self.graph = graph
        self._caller = caller
        self._given = {id(t): x for t, x in zip(graph.inputs, given, strict=False)}

    def flops(self) -> int:
        """The operations of this call."""
        return sum(self._flops_of(op) for op in self._needed())

    def _needed(self):
        """The operations that the outputs need; TensorFlow runs no others.

        Keras traces a step of a recurrent layer ahead of its loop, only for the shapes.
        """
        left = [t.op for t in self.graph.outputs] + list(self.graph.control_outputs)
        seen = {id(op): op for op in left}
        while left:
            op = left.pop()
            for other in (*(t.op for t in op.inputs), *op.control_inputs):
                if id(other) not in seen:
                    seen[id(other)] = other
                    left.append(other)
        return seen.values()

    def _flops_of(self, op) -> int:
        if op.type in ("While", "StatelessWhile"):
            return self._flops_of_loop(op)
        if op.type in ("If", "StatelessIf"):
            given = op.inputs[1:]
            return max(self._called(op, name, given).flops() for name in _BRANCHES)
        if op.type in ("Case", "StatelessCase"):
            names = [f.name for f in op.node_def.attr["branches"].list.func]
            return max(_Scope(self._graph(n), self, op.inputs[1:]).flops() for n in names)
        if op.type in ("PartitionedCall", "StatefulPartitionedCall"):
            return self._called(op, "f", op.inputs).flops()
        return operation_flops(op)

    def _called(self, op, attribute: str, given) -> _Scope:
        return _Scope(self._graph(op.node_def.attr[attribute].func.name), self, given)

    def _graph(self, name: str):
        graph = self.graph
        while graph is not None:
            function = graph._functions.get(name)
            if function is not None:
                return function.graph
            graph = getattr(graph, "outer_graph", None)
        raise ValueError(f"`model` calls a function of which nothing is known: {name}.")

    def _flops_of_loop(self, op) -> int:
        body, condition = (self._called(op, name, op.inputs) for name in ("body", "cond"))
        # What the body hands on as it was given it is the same in each turn.
        constant = [
            _source(out) is _source(given)
            for given, out in zip(body.graph.inputs, body.graph.outputs, strict=True)
        ]
        given = [x if same else None for x, same in zip(op.inputs, constant, strict=True)]
        each = _Scope(body.graph, self, given).flops()
        return each * self._turns(op, body, condition, constant) if each else 0

    def _turns(self, op, body, condition, constant) -> int:
        """How often a loop runs that counts up to a limit; at most, where it may stop earlier."""
        place = {id(t): i for i, t in enumerate(condition.graph.inputs)}
        found, left = [], [_source(condition.graph.outputs[0])]
        while left:
            test = left.pop().op
            if test.type == "LogicalAnd":
                left += [_source(t) for t in test.inputs]
            if test.type not in ("Less", "LessEqual"):
                continue
            counter, limit = (_source(t) for t in test.inputs)
            index, bound = place.get(id(counter)), place.get(id(limit))
            if index is None or constant[index] or (bound is not None and not constant[bound]):
                continue
            step = _step(body.graph.inputs[index], body.graph.outputs[index])
            start, end = self._value(op.inputs[index]), condition._value(limit)
            if step is None or start is None or end is None:
                continue
            more = (end - start) / step
            found.append(math.floor(more) + 1 if test.type == "LessEqual" else math.ceil(more))
        if not found:
            raise ValueError(
                "`model` has a loop of which it cannot be told how often it runs, since that "
                f"depends on its data: {op.name}. Its floating-point operations cannot be counted."
            )
        return max(0, min(found))

    def _value(self, tensor):
        """A number that depends on no input, or `None`."""
        import tensorflow as tf

        tensor = _source(tensor)
        if id(tensor) in self._given:
            outer = self._given[id(tensor)]
            return None if outer is None or self._caller is None else self._caller._value(outer)
        value = tf.get_static_value(tensor)
        if value is None:
            try:
                with tf.compat.v1.Session(graph=self.graph) as session:
                    value = session.run(tensor)
            except (tf.errors.OpError, ValueError, TypeError):  # It depends on an input.
                return None
        return float(value) if np.ndim(value) == 0 else None


_BRANCHES = ("then_branch", "else_branch")


def _source(tensor):
    while tensor.op.type == "Identity":
        tensor = tensor.op.inputs[0]
    return tensor


def _step(given, out) -> float | None:
    """By how much a counter grows in each turn."""
    import tensorflow as tf

    out = _source(out)
    if out.op.type not in ("Add", "AddV2"):
        return None
    terms = [_source(t) for t in out.op.inputs]
    others = [t for t in terms if t is not _source(given)]
    value = tf.get_static_value(others[0]) if len(others) == 1 else None
    return float(value) if value is not None and value > 0 else None


def operation_flops(op) -> int:
    """The operations of a matrix product or a convolution; 0 for others."""
    if op.type in ("MatMul", "BatchMatMulV2", "BatchMatMul", "BatchMatMulV3"):
        left = _shape(op, op.inputs[0])
        transposed = op.get_attr("transpose_a") if op.type == "MatMul" else op.get_attr("adj_x")
        inner = left[-2] if transposed else left[-1]
        return 2 * math.prod(_shape(op, op.outputs[0])) * inner
    if op.type == "Einsum":
        return _einsum_flops(op)
    if op.type in ("Conv2D", "DepthwiseConv2dNative", "Conv3D"):
        kernel = _shape(op, op.inputs[1])
        window = kernel[:-1] if op.type != "DepthwiseConv2dNative" else kernel[:2]
        return 2 * math.prod(_shape(op, op.outputs[0])) * math.prod(window)
    if op.type in ("Conv2DBackpropInput", "Conv2DBackpropInputV2", "Conv3DBackpropInputV2"):
        # A transposed convolution: each input position adds to a window of the output.
        kernel = _shape(op, op.inputs[1])
        return 2 * math.prod(_shape(op, op.inputs[2])) * math.prod(kernel[:-1])
    return 0


def _einsum_flops(op) -> int:
    equation = op.get_attr("equation").decode()
    sizes: dict[str, int] = {}
    for term, tensor in zip(equation.split("->")[0].split(","), op.inputs, strict=True):
        shape = _shape(op, tensor)
        letters = term.replace("...", "")
        head = len(shape) - len(letters)
        dots = term.find("...")
        for i in range(head):
            sizes[f".{i}"] = shape[dots + i]
        plain = shape if dots < 0 else shape[:dots] + shape[dots + head :]
        sizes.update(zip(letters, plain, strict=True))
    return 2 * math.prod(sizes.values()) if len(op.inputs) > 1 else 0


def _shape(op, tensor) -> list[int]:
    shape = tensor.shape
    if shape.rank is None or None in list(shape):
        raise ValueError(
            f"`model` has an operation on a tensor of unknown shape, {op.name} ({op.type}): "
            f"{shape}. Its floating-point operations cannot be counted."
        )
    return list(shape)
